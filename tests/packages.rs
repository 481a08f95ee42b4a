//! What `make dist` makes is all that a stranger needs: each package is installed and used in a clean system that is
//! older than the one it was built on, and has another OpenSSL.
//!
//! Run it where the cluster is reached, after `make dist old-system`:
//! `tests/cluster/cluster.py run -- cargo test --test packages`.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test program")]

mod toolchain;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use toolchain::{empty, output, root, succeeded};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// As root in a fresh copy of the old system, which is gone afterwards; the packages are in /packages, the project in
/// /project.
const ENTER: &str = r#"
mount --make-rprivate /
mount -t tmpfs none "$PLACE"
mkdir "$PLACE/upper" "$PLACE/work" "$PLACE/root"
mount -t overlay -o "lowerdir=$PROJECT/target/roots/debian11,upperdir=$PLACE/upper,workdir=$PLACE/work" none "$PLACE/root"
cd "$PLACE/root"
mkdir packages project kube
mount --bind "$PROJECT/target/packages" packages
mount --bind "$PROJECT" project
mount --rbind /proc proc
mount --rbind /dev dev
cp "$KUBECONFIG" kube/config
exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 KUBECONFIG=/kube/config \
    chroot . sh -euc "$SCRIPT"
"#;

/// What a script says there.
fn inside(name: &str, script: &str) -> String {
    let old = root().join("target/roots/debian11");
    assert!(old.exists(), "there is no {}: run `make old-system`", old.display());
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-euc", ENTER])
        .env("PROJECT", root())
        .env("PLACE", empty(&format!("packages-{name}")));
    succeeded(command.env("SCRIPT", script))
}

fn package(ending: &str) -> PathBuf {
    let found = fs::read_dir(root().join("target/packages")).into_iter().flatten().map(|entry| entry.unwrap().path());
    let found: Vec<_> = found.filter(|path| path.to_str().unwrap().ends_with(ending)).collect();
    let [package] = &found[..] else { panic!("one package *{ending} expected, found {found:?}: run `make dist`") };
    package.clone()
}

#[test]
fn the_archive_serves_c_cpp_and_the_terminal_wherever_it_is_put() {
    let said = inside(
        "archive",
        r#"
        tar -xzf /packages/*-linux.tar.gz -C /opt
        mv /opt/sandbox-* /opt/there
        export PKG_CONFIG_PATH=/opt/there/lib/pkgconfig
        for module in sandbox sandbox-static; do
            cc /project/examples/quickstart.c -o "c-$module" $(pkg-config --cflags --libs $module)
            c++ -std=c++17 /project/examples/quickstart.cpp -o "cpp-$module" $(pkg-config --cflags --libs $module)
        done
        for program in c-sandbox cpp-sandbox; do LD_LIBRARY_PATH=/opt/there/lib ./$program; done
        for program in c-sandbox-static cpp-sandbox-static; do ./$program; done
        mkdir outside && cp /project/tests/install/CMakeLists.txt /project/examples/quickstart.c* outside
        cmake -S outside -B build "-DVERSION=$(pkg-config --modversion sandbox)" -DCMAKE_PREFIX_PATH=/opt/there >/dev/null
        cmake --build build >/dev/null
        for program in c-sandbox cpp-sandbox c-static cpp-static; do build/$program; done
        export PATH="$PATH:/opt/there/bin"
        name=$(sandbox create)
        sandbox cp /etc/os-release $name:
        sandbox run $name grep -h ^ID= os-release
        sandbox rm $name
        sandbox guest-image - | tar -t | grep -c blobs/sha256/
        bash -n /opt/there/share/bash-completion/completions/sandbox
        zcat /opt/there/share/man/man1/sandbox-run.1.gz | grep '^.TH'
        "#,
    );
    assert_eq!(said.matches(" says sandbox-").count(), 8, "{said}");
    assert!(said.contains("\nID=debian\n") && said.contains(".TH sandbox-run 1"), "{said}");
}

#[test]
fn the_debian_package_is_installed_used_and_removed_whole() {
    let said = inside(
        "deb",
        r#"
        everything() { find / -xdev -path /var -prune -o -path /etc/ld.so.cache -prune -o -path /tmp -prune -o -print | sort; }
        everything >/tmp/before
        dpkg -i /packages/*.deb >/dev/null
        sandbox --version
        cc /project/examples/quickstart.c -o /tmp/quickstart $(pkg-config --cflags --libs sandbox)
        /tmp/quickstart
        sandbox ls --owner nobody
        dpkg --purge sandbox >/dev/null
        everything | diff /tmp/before - && echo nothing is left
        ldconfig -p | grep sandbox || echo nothing is loaded
        "#,
    );
    assert!(said.starts_with(&format!("sandbox {VERSION}\n")), "{said}");
    assert!(said.contains(" says sandbox-") && said.ends_with("nothing is left\nnothing is loaded\n"), "{said}");
}

/// Nothing says so better than that it works: Debian 11 has glibc 2.31 and OpenSSL 1.1.
#[test]
fn the_wheel_needs_nothing_of_the_system_and_leaves_pythons_openssl_alone() {
    let said = inside(
        "wheel",
        r#"
        python3 -m venv /env
        /env/bin/pip install --quiet --no-index /packages/*.whl
        /env/bin/python -X dev -W error /project/examples/quickstart.py
        /env/bin/python -X dev -W error /project/bindings/python/tests/package.py
        dpkg -i /packages/*.deb >/dev/null
        name=$(sandbox create)
        for try in 1 2 3 4 5; do
            /env/bin/python -X dev -W error /project/tests/packages/openssl.py $name before
            /env/bin/python -X dev -W error /project/tests/packages/openssl.py $name
        done
        sandbox rm $name
        "#,
    );
    assert!(said.contains(" says sandbox-"), "{said}");
    assert_eq!(said.lines().filter(|line| line.starts_with("done OpenSSL 1.1.1")).count(), 10, "{said}");
}

/// Three OpenSSLs: Python's, that of the other wheel, and the library's.
#[test]
fn a_wheel_with_an_openssl_of_its_own_is_used_beside_it() {
    let said = inside(
        "psycopg",
        r#"
        python3 -m venv /env
        /env/bin/pip install --quiet --no-index /packages/*.whl /project/target/beside/psycopg2/*.whl
        openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -days 1 -keyout key.pem -out certificate.pem 2>/dev/null
        cat key.pem certificate.pem >both.pem
        dpkg -i /packages/*.deb >/dev/null
        name=$(sandbox create)
        for try in 1 2 3; do
            /env/bin/python -X dev -W error /project/tests/packages/psycopg.py $name /both.pem before
            /env/bin/python -X dev -W error /project/tests/packages/psycopg.py $name /both.pem
        done
        sandbox rm $name
        "#,
    );
    assert_eq!(said.lines().filter(|line| line.starts_with("done OpenSSL 1.1.1")).count(), 6, "{said}");
}

/// libssh2 is in such a program once, with this library's ciphers.
#[test]
fn a_program_uses_ssh2_and_git2_beside_it() {
    let program = root().join("target/beside/debug/beside");
    assert!(program.exists(), "there is no {}: run `make target/beside/debug/beside`", program.display());
    let place = empty("packages-beside");
    let key = place.join("key");
    succeeded(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key));
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.args(["-c", "init.defaultBranch=main", "-c", "user.name=n", "-c", "user.email=e"]);
        succeeded(git.args(arguments).current_dir(&place))
    };
    git(&["init", "--quiet", "repository"]);
    git(&["-C", "repository", "commit", "--quiet", "--allow-empty", "--message=first"]);
    let commit = git(&["-C", "repository", "rev-parse", "main"]);
    let advertisement = place.join("advertisement");
    fs::write(&advertisement, git(&["upload-pack", "--http-backend-info-refs", "repository"])).unwrap();
    let mut beside = Command::new(program);
    beside.arg(&key).arg(advertisement).arg(commit.trim()).env("SANDBOX_SSH_KEY", &key);
    assert_eq!(succeeded(&mut beside), "done\n");
}

/// Shared and static, and both libraries in one program.
#[test]
fn a_program_has_its_own_openssl_and_may_end_in_the_midst_of_calls() {
    let said = inside(
        "openssl",
        r#"
        dpkg -i /packages/*.deb >/dev/null
        cd /tmp
        build() { out=$1; shift; cc -Wall -Wextra -Werror -pthread /project/tests/packages/openssl.c -o $out "$@"; }
        build shared $(pkg-config --cflags --libs sandbox) -lssl -lcrypto
        build static $(pkg-config --cflags --libs sandbox-static) -lssl -lcrypto
        build both $(pkg-config --cflags --libs sandbox-static) -l:libssl.a -l:libcrypto.a -ldl
        build first -l:libssl.a -l:libcrypto.a $(pkg-config --cflags --libs sandbox-static) -l:libssl.a -l:libcrypto.a -ldl
        name=$(sandbox create)
        for program in shared static both first; do
            for try in 1 2 3 4 5; do ./$program $name; done
        done
        sandbox rm $name
        "#,
    );
    assert_eq!(said.matches("done\n").count(), 20, "{said}");
}

/// Such as those of a machine on which everything has to be FIPS, or of a broken file.
#[test]
fn settings_for_the_machines_openssl_do_not_matter() {
    let said = inside(
        "settings",
        r#"
        dpkg -i /packages/*.deb >/dev/null
        python3 -m venv /env
        /env/bin/pip install --quiet --no-index /packages/*.whl
        printf 'openssl_conf = all\n[all]\nalg_section = algorithms\n[algorithms]\ndefault_properties = fips=yes\n' >fips
        printf 'config_diagnostics = 1\nopenssl_conf = all\n[all\n' >broken
        for settings in fips broken absent; do
            export OPENSSL_CONF=$PWD/$settings
            name=$(sandbox create)
            /env/bin/python -c "import sandbox; print(sandbox.Client().attach('$name').run(['echo', '$settings'], text=True).stdout)"
            sandbox rm $name
        done
        "#,
    );
    assert_eq!(said.split_whitespace().collect::<Vec<_>>(), ["fips", "broken", "absent"], "{said}");
}

/// A built-in OpenSSL knows no such place by itself.
#[test]
fn the_authorities_that_the_machine_trusts_are_trusted() {
    let said = inside(
        "authorities",
        r#"
        dpkg -i /packages/*.deb >/dev/null
        sed -n 's/.*certificate-authority-data: //p' $KUBECONFIG | base64 -d >/usr/local/share/ca-certificates/cluster.crt
        sed -i '/certificate-authority-data/d' $KUBECONFIG
        sandbox ls 2>&1 || echo refused
        update-ca-certificates >/dev/null 2>&1
        sandbox ls >/dev/null && echo trusted
        "#,
    );
    assert!(said.contains("certificate") && said.ends_with("refused\ntrusted\n"), "{said}");
}

/// Without a wheel for its platform, pip builds the library from the source distribution.
#[test]
fn the_source_distribution_builds_a_wheel() {
    let (place, archive) = (empty("packages-sdist"), package(&format!("/sandbox-{VERSION}.tar.gz")));
    let mut pip = Command::new(root().join("target/tools/bin/pip"));
    pip.args(["wheel", "--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir"])
        .arg(&place)
        .arg(archive);
    // What `make library` has built is there already.
    succeeded(
        pip.env("CARGO_TARGET_DIR", root().join("target"))
            .env("CARGO_NET_OFFLINE", "true")
            .env_remove("SANDBOX_LIBRARY"),
    );
    let wheels: Vec<_> = fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().path()).collect();
    let environment = place.join("python");
    succeeded(Command::new("python3").args(["-m", "venv"]).arg(&environment));
    let installed = environment.join("bin/python");
    succeeded(
        Command::new(&installed).args(["-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]).args(wheels),
    );
    let said = succeeded(Command::new(&installed).arg(root().join("examples/quickstart.py")));
    assert!(said.contains(" says sandbox-"), "{said}");
}

/// The files of a crate's package.
fn packed(name: &str) -> BTreeSet<String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(root()).args(["package", "--offline", "--locked", "--allow-dirty", "--list", "--package", name]);
    succeeded(&mut cargo).lines().map(str::to_owned).collect()
}

#[test]
fn the_crates_have_what_they_need_and_nothing_else() {
    let always =
        [".cargo_vcs_info.json", "Cargo.lock", "Cargo.toml", "Cargo.toml.orig", "LICENSE-APACHE", "LICENSE-MIT"];
    let documents = ["build.rs", "README.md", "CHANGELOG.md", "SECURITY.md", "include/sandbox.h"];
    for (name, directory, files) in
        [("sandbox", ".", &documents[..]), ("sandbox-ciphers", "ciphers", &[]), ("sandbox-protocol", "protocol", &[])]
    {
        let directory = root().join(directory);
        let sources = succeeded(Command::new("git").current_dir(&directory).args(["ls-files", "src"]));
        let expected: BTreeSet<_> =
            sources.lines().chain(always).chain(files.iter().copied()).map(str::to_owned).collect();
        assert_eq!(packed(name), expected);
    }
}

/// Each as others get it, by the others' packages.
#[test]
fn the_crates_build_from_their_packages() {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(root()).args(["package", "--offline", "--locked", "--allow-dirty", "--quiet"]);
    let crates = ["sandbox-protocol", "sandbox-ciphers", "sandbox"];
    let output = output(cargo.args(crates.iter().flat_map(|name| ["--package", name])));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for name in crates {
        let package = Path::new("target/package").join(format!("{name}-{VERSION}.crate"));
        assert!(root().join(&package).exists(), "{}", package.display());
    }
}
