//! No module uses one of a higher layer. The layers are listed in CONTRIBUTING.md, and nowhere else.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The modules of each layer, the highest first.
fn layers() -> Vec<Vec<String>> {
    let text = fs::read_to_string(root().join("CONTRIBUTING.md")).unwrap();
    let (_, rest) = text.split_once("```layers\n").unwrap();
    let (list, _) = rest.split_once("```").unwrap();
    list.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The path of a file's module, such as `["ssh", "raw", "sftp"]`.
fn module_of(file: &Path) -> Vec<String> {
    let path = file.strip_prefix(root().join("src")).unwrap().with_extension("");
    let mut names: Vec<_> = path.iter().map(|name| name.to_str().unwrap().to_owned()).collect();
    if matches!(names.last().map(String::as_str), Some("mod" | "lib")) {
        names.pop();
    }
    names
}

/// The code without its tests and comments, on one line. Tests may use what they like.
fn code(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap();
    let lines = text.lines().map(|line| if line.trim_start().starts_with("//") { "" } else { line });
    lines.collect::<Vec<_>>().join(" ")
}

/// The paths that begin with `crate::` or `super::`, from the crate's root on; those of a group one by one.
fn used_paths(module: &[String], code: &str) -> Vec<Vec<String>> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let mut paths = Vec::new();
    for start in ["crate::", "super::"] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| is_name(c) || c == ':') {
                continue;
            }
            let (mut base, mut rest) = (if start == "crate::" { Vec::new() } else { module.to_vec() }, &code[at..]);
            loop {
                if let Some(after) = rest.strip_prefix("super::") {
                    base.pop();
                    rest = after;
                } else if let Some(after) = rest.strip_prefix("crate::") {
                    rest = after;
                } else {
                    break;
                }
            }
            expand(&base, rest, &mut paths);
        }
    }
    paths
}

fn expand(base: &[String], rest: &str, paths: &mut Vec<Vec<String>>) {
    let rest = rest.trim_start();
    if let Some(group) = rest.strip_prefix('{') {
        let (mut depth, mut start) = (0, 0);
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                ',' | '}' if depth == 0 => {
                    expand(base, &group[start..at], paths);
                    start = at + 1;
                    if c == '}' {
                        return;
                    }
                }
                '}' => depth -= 1,
                _ => {}
            }
        }
        return;
    }
    let length = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
    let (name, after) = rest.split_at(length);
    if name.is_empty() || name == "self" {
        paths.push(base.to_vec());
        return;
    }
    let path = [base, &[name.to_owned()]].concat();
    match after.strip_prefix("::") {
        Some(after) => expand(&path, after, paths),
        None => paths.push(path),
    }
}

/// The layer of a module and the entry of the list that it belongs to: the longest one that its path begins with.
fn entry_of<'l>(layers: &'l [Vec<String>], path: &[String]) -> Option<(usize, &'l str)> {
    let path = path.join("/");
    let begins = |entry: &str| path == entry || path.strip_prefix(entry).is_some_and(|rest| rest.starts_with('/'));
    let all = layers.iter().enumerate().flat_map(|(layer, names)| names.iter().map(move |name| (layer, name.as_str())));
    all.filter(|(_, name)| begins(name)).max_by_key(|(_, name)| name.len())
}

/// Those of the crate's root.
const PUBLIC_FUNCTIONS: [&str; 3] = ["diagnose", "interruptible", "set_log_handler"];

/// What a path at the crate's root stands for: a module, or a public name.
fn target(path: &[String]) -> Vec<String> {
    match path {
        [first, ..] if first.starts_with(char::is_uppercase) || PUBLIC_FUNCTIONS.contains(&first.as_str()) => {
            vec!["lib".to_owned()]
        }
        path => path.to_vec(),
    }
}

#[test]
fn nothing_uses_a_higher_layer() {
    let (layers, mut wrong) = (layers(), Vec::new());
    let mut checked = 0;
    for file in sources(&root().join("src")) {
        let module = module_of(&file);
        // What re-exports everything is above everything, and the command is a crate of its own.
        if module.is_empty() || module[0] == "bin" {
            continue;
        }
        let Some((own_layer, own)) = entry_of(&layers, &module) else {
            wrong.push(format!("{} is in no layer", module.join("/")));
            continue;
        };
        for path in used_paths(&module, &code(&file)) {
            let path = target(&path);
            checked += 1;
            match entry_of(&layers, &path) {
                Some((layer, entry)) if layer > own_layer || entry == own => {}
                // A path to the own parent, such as `super::Answer` of `ssh/raw`.
                Some((_, entry)) if own.starts_with(&format!("{entry}/")) => {}
                _ => wrong.push(format!("{} uses {}", module.join("/"), path.join("::"))),
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(checked > 300, "only {checked} uses were found");
}

#[test]
fn paths_are_found_in_every_form() {
    let module = ["ssh".to_owned(), "raw".to_owned(), "sftp".to_owned()];
    let code =
        "use super::{Answer, channel::{A, self}}; use crate::fd; super::super::stream::Stream::direct(); mycrate::x";
    let found: Vec<_> = used_paths(&module, code).iter().map(|path| path.join("::")).collect();
    assert_eq!(
        found,
        ["fd", "ssh::raw::Answer", "ssh::raw::channel::A", "ssh::raw::channel", "ssh::stream::Stream::direct"]
    );
}

#[test]
fn a_use_of_a_higher_layer_is_seen() {
    let layers = [vec!["client".to_owned()], vec!["ssh".to_owned(), "cluster".to_owned()], vec!["ssh/raw".to_owned()]];
    let layer = |path: &[&str]| entry_of(&layers, &path.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
    assert_eq!(layer(&["client", "Client"]), Some((0, "client")));
    assert_eq!(layer(&["ssh", "raw", "sftp"]), Some((2, "ssh/raw")));
    assert_eq!(layer(&["ssh", "pool"]), Some((1, "ssh")));
    assert_eq!(layer(&["sshd"]), None);
}
