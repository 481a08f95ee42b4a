//! The header is what src/ffi says, and the library exports what the header says.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The library that was built with this test.
fn library() -> PathBuf {
    std::env::current_exe().unwrap().with_file_name("libsandbox.so")
}

/// The sources of the C ABI, by name, in the order in which the header has them.
const FILES: [&str; 23] = [
    "mod.rs",
    "error.rs",
    "config.rs",
    "doctor.rs",
    "client.rs",
    "spec.rs",
    "sandbox.rs",
    "command.rs",
    "child.rs",
    "detached.rs",
    "forward.rs",
    "files.rs",
    "open_file.rs",
    "transfer.rs",
    "usage.rs",
    "filter.rs",
    "changes.rs",
    "info.rs",
    "pool.rs",
    "thread.rs",
    "keys.rs",
    "logging.rs",
    "boundary.rs",
];

fn sources() -> impl Iterator<Item = (&'static str, String)> {
    FILES.into_iter().map(|name| (name, read(Path::new("src/ffi").join(name))))
}

fn parts_of(version: &str) -> Vec<u32> {
    version.split('.').map(|part| part.parse().unwrap()).collect()
}

/// The comment on top of mod.rs, as a C comment.
fn opening() -> String {
    let source = read("src/ffi/mod.rs");
    let lines = source.lines().map_while(|line| line.strip_prefix("//!"));
    let lines: Vec<_> = lines.map(|line| format!(" *{line}")).collect();
    format!("/**\n * \\file\n *\n{}\n */", lines.join("\n"))
}

fn macros() -> String {
    let [major, minor, patch] = parts_of(VERSION)[..] else { panic!("{VERSION} has not three parts") };
    format!(
        "
/** The version that this header belongs to: its first number, with which everything may change. */
#define SBX_VERSION_MAJOR {major}
/** Its second number, with which there is something new. */
#define SBX_VERSION_MINOR {minor}
/** Its third number, with which something is repaired. */
#define SBX_VERSION_PATCH {patch}
/** The version as a number that grows. */
#define SBX_VERSION_NUMBER ((SBX_VERSION_MAJOR << 16) | (SBX_VERSION_MINOR << 8) | SBX_VERSION_PATCH)
/** The version as text, as sbx_version() has that of the library that runs. */
#define SBX_VERSION_STRING \"{VERSION}\"

/** A status that nobody looks at is a mistake, which compilers say. */
#if (defined(__cplusplus) && __cplusplus >= 201703L) || (defined(__STDC_VERSION__) && __STDC_VERSION__ >= 202311L)
#define SBX_NODISCARD [[nodiscard]]
#elif defined(__GNUC__)
#define SBX_NODISCARD __attribute__((warn_unused_result))
#else
#define SBX_NODISCARD
#endif"
    )
}

fn generated() -> String {
    let mut config = cbindgen::Config::from_file(root().join("cbindgen.toml")).unwrap();
    config.header = Some(opening());
    config.after_includes = Some(macros());
    // It follows the modules by itself.
    let builder = cbindgen::Builder::new().with_config(config).with_src(root().join("src/ffi/mod.rs"));
    let mut header = Vec::new();
    builder.generate().unwrap().write(&mut header);
    // cbindgen writes the renamed type as it stands, and pointers with the star at the name. What a type says of its
    // values it writes for C++ only, and for types that are no integers.
    let header = String::from_utf8(header).unwrap().replace("const char* ", "const char *");
    let header = header.replace("\nsbx_status sbx_", "\nSBX_NODISCARD\nsbx_status sbx_");
    with_groups(&with_since(&header, &later(&symbols_in(&header))))
}

/// Has documentation show the functions of each source as a group of their own, under what the source says of itself.
fn with_groups(header: &str) -> String {
    let mut lines: Vec<_> = header.lines().map(str::to_owned).collect();
    for (file, source) in sources() {
        let names = defined_in(&source);
        let starts = |name: &String| lines.iter().position(|line| declares(line, name)).unwrap();
        let (Some(first), Some(last)) = (names.iter().map(starts).min(), names.iter().map(starts).max()) else {
            continue;
        };
        let between = &functions_in(&lines[first..=last].join("\n"));
        assert_eq!(between, &names, "the functions of {file} are not together in the header");
        let about = source.lines().next().unwrap().trim_start_matches("//! ");
        let (group, title) = match file {
            "mod.rs" => ("version", "The version"),
            _ => (file.trim_end_matches(".rs"), about.split_once('.').unwrap().0),
        };
        let end = last + lines[last..].iter().position(|line| line.ends_with(");")).unwrap() + 1;
        lines.splice(end..end, [String::new(), "/** \\} */".to_owned()]);
        let begin = lines[..first].iter().rposition(|line| line == "/**").unwrap();
        let opening = ["/**", &format!(" * \\defgroup sbx_{group} {title}"), " * \\{", " */", ""].map(str::to_owned);
        lines.splice(begin..begin, opening);
    }
    lines.join("\n") + "\n"
}

/// Whether a line of the header begins to declare this function.
fn declares(line: &str, name: &str) -> bool {
    let is_code = !line.trim_start().starts_with(['*', '/']);
    is_code && line.split_once('(').is_some_and(|(before, _)| before.rsplit([' ', '*']).next() == Some(name))
}

/// The functions of the C ABI in a source.
fn defined_in(source: &str) -> BTreeSet<String> {
    let named = source.lines().filter_map(|line| line.trim().split_once("extern \"C\" fn sbx_"));
    named.map(|(_, rest)| format!("sbx_{}", rest.split(['(', '<']).next().unwrap())).collect()
}

/// What came after the first version, of these symbols, each with the version that brought it.
fn later(now: &BTreeSet<String>) -> Vec<(String, BTreeSet<String>)> {
    let mut known = BTreeSet::new();
    let mut versions: Vec<_> = versions()
        .into_iter()
        .filter(|version| version != VERSION)
        .map(|version| {
            let symbols = symbols_of(&version);
            (version, symbols)
        })
        .collect();
    versions.push((VERSION.to_owned(), now.clone()));
    let news = versions.into_iter().map(|(version, symbols)| {
        let new = symbols.difference(&known).cloned().collect();
        known.extend(symbols);
        (version, new)
    });
    news.skip(1).collect()
}

fn is_blessed() -> bool {
    std::env::var_os("BLESS").is_some()
}

/// The header as it is checked in, or about to be.
fn header() -> String {
    if is_blessed() { generated() } else { read("include/sandbox.h") }
}

/// The versions that `symbols/` tells of, the oldest first.
fn versions() -> Vec<String> {
    let files = files_below(root().join("symbols"), "txt").into_iter();
    let mut versions: Vec<_> = files.map(|file| file.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    versions.sort_by_key(|version| parts_of(version));
    versions
}

/// What a version has: `sbx_client_new`, or `SBX_ERR_CONFIG 2`.
fn symbols_of(version: &str) -> BTreeSet<String> {
    read(Path::new("symbols").join(format!("{version}.txt"))).lines().map(str::to_owned).collect()
}

/// The functions, enumerators and their numbers in a header.
fn symbols_in(header: &str) -> BTreeSet<String> {
    let code = without_comments(header, "/*", "*/");
    let numbers = code.lines().filter_map(|line| line.trim().trim_end_matches(',').split_once(" = "));
    let numbers = numbers.filter(|(name, _)| name.starts_with("SBX_")).map(|(name, number)| format!("{name} {number}"));
    functions_in(header).into_iter().chain(numbers).collect()
}

/// Has each comment say in which version its function or number came, but for those of the first one.
fn with_since(header: &str, later: &[(String, BTreeSet<String>)]) -> String {
    let mut lines: Vec<_> = header.lines().map(str::to_owned).collect();
    for (version, symbols) in later {
        for symbol in symbols {
            let start = match symbol.split_once(' ') {
                Some((name, number)) => format!("    {name} = {number},"),
                None => format!("{symbol}("),
            };
            let found = lines.iter().position(|line| line.starts_with(&start) || line.contains(&format!(" {start}")));
            let place = found.or_else(|| lines.iter().position(|line| line.contains(&format!("*{start}"))));
            let end = lines[..place.unwrap()].iter().rposition(|line| line.trim() == "*/").unwrap();
            let indent = lines[end].trim_end_matches("*/").to_owned();
            lines.splice(end..end, [format!("{indent}*"), format!("{indent}* Since {version}.")]);
        }
    }
    lines.join("\n") + "\n"
}

/// The functions that the header declares.
fn declared() -> BTreeSet<String> {
    let names = functions_in(&header());
    assert!(names.len() > 100, "only {} functions found", names.len());
    names
}

fn functions_in(header: &str) -> BTreeSet<String> {
    let (mut names, mut in_comment) = (BTreeSet::new(), false);
    for line in header.lines() {
        in_comment |= line.trim_start().starts_with("/*");
        if !in_comment
            && let Some((before, _)) = line.split_once('(')
            && let Some(name) = before.rsplit([' ', '*']).next()
            && name.starts_with("sbx_")
        {
            assert!(names.insert(name.to_owned()), "{name} is declared twice");
        }
        in_comment &= !line.contains("*/");
    }
    names
}

fn stdout(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_header_is_current() {
    let (path, now) = (root().join("include/sandbox.h"), generated());
    if is_blessed() {
        fs::write(&path, &now).unwrap();
        return;
    }
    let kept = read(&path);
    if let Some((number, (kept, now))) =
        kept.lines().chain([""]).zip(now.lines().chain([""])).enumerate().find(|(_, (kept, now))| kept != now)
    {
        panic!(
            "include/sandbox.h is not current from line {} on:\n-{kept}\n+{now}\nrun: BLESS=1 cargo test --test header",
            number + 1
        );
    }
    assert_eq!(kept, now, "run: BLESS=1 cargo test --test header");
}

#[test]
fn the_library_exports_the_headers_functions_and_nothing_else() {
    let symbols = stdout(Command::new("nm").args(["-D", "--defined-only", "--format=just-symbols"]).arg(library()));
    let exported: BTreeSet<_> = symbols.lines().map(|line| line.split('@').next().unwrap().to_owned()).collect();
    assert_eq!(exported, declared());
}

/// Within one SONAME functions and numbers are only added. When it changes, `symbols/` begins anew.
#[test]
fn nothing_is_taken_away_that_a_version_had() {
    let now = symbols_in(&header());
    if is_blessed() {
        let lines: String = now.iter().map(|symbol| format!("{symbol}\n")).collect();
        fs::write(root().join(format!("symbols/{VERSION}.txt")), lines).unwrap();
    }
    let versions = versions();
    assert_eq!(versions.last().map(String::as_str), Some(VERSION), "run: BLESS=1 cargo test --test header");
    let news: Vec<_> = now.symmetric_difference(&symbols_of(VERSION)).cloned().collect();
    assert!(news.is_empty(), "symbols/{VERSION}.txt is not current, run: BLESS=1 cargo test --test header: {news:#?}");
    for version in versions {
        let gone: Vec<_> = symbols_of(&version).difference(&now).cloned().collect();
        assert!(gone.is_empty(), "{version} had these, so the SONAME has to change: {gone:#?}");
    }
}

#[test]
fn a_comment_says_since_when() {
    let header = "/**\n * Old.\n */\nvoid sbx_old(void);\n/**\n * New.\n */\nconst char *sbx_new(int32_t a,\n    int b);\n\
        enum sbx_e {\n    /**\n     * One.\n     */\n    SBX_ONE = 1,\n};\n";
    let symbols = symbols_in(header);
    assert_eq!(symbols.iter().map(String::as_str).collect::<Vec<_>>(), ["SBX_ONE 1", "sbx_new", "sbx_old"]);
    let new = symbols.into_iter().filter(|symbol| symbol != "sbx_old").collect();
    let expected = header.replace(" * New.\n", " * New.\n *\n * Since 1.2.0.\n");
    let expected = expected.replace("     * One.\n", "     * One.\n     *\n     * Since 1.2.0.\n");
    assert_eq!(with_since(header, &[("1.2.0".to_owned(), new)]), expected);
}

#[test]
fn the_library_has_the_soname() {
    let dynamic = stdout(Command::new("readelf").args(["-d", "-W"]).arg(library()));
    assert!(dynamic.contains("Library soname: [libsandbox.so.0]"), "{dynamic}");
}

#[test]
fn the_version_macros_match_the_crate() {
    let header = header();
    for (name, part) in ["MAJOR", "MINOR", "PATCH"].iter().zip(parts_of(VERSION)) {
        assert!(header.contains(&format!("#define SBX_VERSION_{name} {part}\n")), "{name} is not {part}");
    }
}

/// All files below a directory with this ending.
fn files_below(directory: PathBuf, ending: &str) -> Vec<PathBuf> {
    let (mut files, mut open) = (Vec::new(), vec![directory]);
    while let Some(directory) = open.pop() {
        let entries = fs::read_dir(&directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|found| found == ending) {
                files.push(path);
            }
        }
    }
    files
}

/// A source without its comments, which go from `begin` to `end`.
fn without_comments(source: &str, begin: &str, end: &str) -> String {
    let (first, rest) = source.split_once(begin).unwrap_or((source, ""));
    let code = rest.split(begin).filter_map(|part| part.split_once(end)).map(|(_, code)| code);
    [first].into_iter().chain(code).collect::<Vec<_>>().join(" ")
}

/// The names of functions in a source, outside of its comments.
fn named(source: &str, (begin, end): (&str, &str)) -> BTreeSet<String> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let code = without_comments(source, begin, end);
    let words = code.split(|letter| !is_part(letter));
    words.filter(|word| word.starts_with("sbx_")).map(str::to_owned).collect()
}

/// A goroutine has no thread of its own, and a context that ends its commands. Python's communicate() reads on where
/// its timeout, or reading before, has left off. Go has labels in a map.
const NOT_NEEDED: [(&str, &str); 3] = [
    ("sbx_thread_on_wait", "bindings/go"),
    ("sbx_info_label", "bindings/go"),
    ("sbx_child_wait_with_output", "bindings/python"),
];

#[test]
fn every_function_is_used_in_every_language() {
    let (declared, mut unused) = (declared(), Vec::new());
    for (directory, ending, comment) in [
        ("tests/conformance/c", "c", ("/*", "*/")),
        ("bindings/cpp", "hpp", ("//", "\n")),
        ("bindings/go", "go", ("//", "\n")),
        ("bindings/python", "py", ("#", "\n")),
    ] {
        // Python's prototypes alone are no use.
        let files = files_below(root().join(directory), ending).into_iter().filter(|file| !file.ends_with("_abi.py"));
        let used: BTreeSet<_> = files.flat_map(|file| named(&read(file), comment)).collect();
        let is_needed = |name: &&String| !NOT_NEEDED.contains(&(name, directory));
        unused.extend(declared.difference(&used).filter(is_needed).map(|name| format!("{name} in {directory}")));
    }
    assert!(unused.is_empty(), "not used: {unused:#?}");
}

#[test]
fn a_name_in_a_comment_is_no_use() {
    let source = "sbx_a(); /* sbx_b()\n * sbx_c() */ sbx_d(); // sbx_e()\nsbx_f();";
    let names = |comment| named(source, comment).into_iter().collect::<Vec<_>>().join(" ");
    assert_eq!(names(("/*", "*/")), "sbx_a sbx_d sbx_e sbx_f");
    assert_eq!(names(("//", "\n")), "sbx_a sbx_b sbx_c sbx_d sbx_f");
}

/// Doxygen, which `make docs-c` asks about everything else, has no warning for these.
#[test]
fn every_enumerator_is_documented() {
    let header = header();
    let lines: Vec<_> = header.lines().collect();
    let enumerators = lines.windows(2).filter(|pair| pair[1].starts_with("    SBX_") && pair[1].contains(" = "));
    assert!(enumerators.clone().count() > 60);
    for pair in enumerators {
        assert_eq!(pair[0].trim(), "*/", "no documentation: {}", pair[1]);
    }
}

/// Text from the signature's start to its closing brace, for each exported function.
fn functions() -> Vec<(String, String)> {
    let mut functions = Vec::new();
    for (file, source) in sources() {
        let exports = source.matches("#[unsafe(no_mangle)]").count();
        let before = functions.len();
        for function in source.split("#[unsafe(no_mangle)]\n").skip(1) {
            let end = function.find("\n}\n").unwrap_or_else(|| panic!("{file}: a function without an end"));
            let name = function.split_once("fn ").and_then(|(_, rest)| rest.split_once('(')).unwrap().0;
            functions.push((name.to_owned(), function[..end].to_owned()));
        }
        assert_eq!(functions.len() - before, exports, "{file}");
    }
    functions
}

/// A function's body must be one expression: `boundary::call` for those with a status and an error, else one of the
/// others.
#[test]
fn every_function_goes_through_the_boundary() {
    let functions = functions();
    assert_eq!(functions.iter().map(|(name, _)| name.clone()).collect::<BTreeSet<_>>(), declared());
    for (name, text) in functions {
        let (signature, body) = text.split_once(" {\n").unwrap();
        let allowed: &[&str] = match signature.contains("err: Option<&mut MaybeUninit<*mut sbx_error>>") {
            true => &["boundary::call(err, "],
            false => &["boundary::get(", "boundary::get_bytes(", "boundary::get_text(", "boundary::free("],
        };
        assert!(allowed.iter().any(|allowed| body.trim_start().starts_with(allowed)), "{name} begins with {body}");
        // The lines of the body's own indentation are the beginning and the end of that expression.
        let own: Vec<_> = body.lines().filter(|line| !line.starts_with("     ")).collect();
        let one = own.len() == 1 || (own.len() == 2 && ["    })", "    });", "    )"].contains(&own[1]));
        assert!(one, "{name} does more than one thing:\n{body}");
    }
}

#[test]
fn every_source_is_known() {
    let found = fs::read_dir(root().join("src/ffi")).unwrap().map(|entry| entry.unwrap().file_name());
    let found: BTreeSet<_> = found.map(|name| name.into_string().unwrap()).collect();
    assert_eq!(found, FILES.iter().map(|name| (*name).to_owned()).collect());
}

#[test]
fn every_extern_function_is_exported_and_documented() {
    for (file, source) in sources() {
        let lines: Vec<_> = source.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            if line.contains("extern \"C\" fn ") && line.contains("pub ") {
                assert_eq!(lines[index - 1], "#[unsafe(no_mangle)]", "{file}: {line}");
                assert!(lines[index - 2].starts_with("///"), "{file}: {line}");
            }
        }
    }
}

#[test]
fn the_c_abi_uses_only_the_public_api() {
    let public: BTreeSet<String> = read("src/lib.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("pub use "))
        .flat_map(|line| {
            line.rsplit("::")
                .next()
                .unwrap()
                .trim_matches(['{', '}', ';', ' '])
                .split(", ")
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .map(|name| name.trim_matches(['{', '}', ';']).to_owned())
        .collect();
    for (file, source) in sources() {
        for used in source.split("crate::").skip(1) {
            let used = used.split(';').next().unwrap();
            let names = used.trim_matches(['{', '}']).split([',', '\n']).map(str::trim).filter(|name| !name.is_empty());
            for name in names {
                assert!(public.contains(name), "{file} uses crate::{name}, which is not in lib.rs");
            }
        }
    }
}
