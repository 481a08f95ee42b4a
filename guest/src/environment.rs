//! What commands find around them: variables, directories, users. Taken from the image once, when the guest starts, and
//! kept in its memory, so that nothing that runs later can change it. Clients may set further variables.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use crate::identity::Identity;
use rustix::fs::{Access, AtFlags, CWD, accessat};

/// What Docker gives a container whose image says nothing.
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// No account file of an image is larger. One that is was made to use memory.
const LARGEST_FILE: u64 = 4 << 20;

/// Variables in the order in which a command gets them.
pub(crate) type Variables = Vec<(Vec<u8>, Vec<u8>)>;

/// Whether these can be a variable's name and value.
pub(crate) fn is_variable(name: &[u8], value: &[u8]) -> bool {
    !name.is_empty() && !name.contains(&b'=') && !name.contains(&0) && !value.contains(&0)
}

/// A user as `/etc/passwd` has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    /// The name.
    pub name: Vec<u8>,
    /// The user id.
    pub uid: u32,
    /// The main group.
    pub gid: u32,
    /// The home directory; empty if none is said.
    pub home: Vec<u8>,
    /// The shell; empty if none is said.
    pub shell: Vec<u8>,
}

impl Account {
    fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b':');
        let mut next = || fields.next();
        let (name, _password, uid, gid) = (next()?, next()?, number(next()?)?, number(next()?)?);
        let (_comment, home, shell) = (next()?, next()?, next().unwrap_or(b""));
        if name.is_empty() {
            return None;
        }
        Some(Self { name: name.to_vec(), uid, gid, home: home.to_vec(), shell: shell.trim_ascii().to_vec() })
    }

    /// The account of a user id. The file is read by this program itself: a static one can't use the image's C library.
    pub(crate) fn by_id(uid: u32) -> Option<Self> {
        Self::find(&read("/etc/passwd"), |account| account.uid == uid)
    }

    /// The account with a name, or with a user id written as a number.
    pub(crate) fn by_name(name: &[u8]) -> Option<Self> {
        let file = read("/etc/passwd");
        Self::find(&file, |account| account.name == name)
            .or_else(|| number(name).and_then(|uid| Self::find(&file, |account| account.uid == uid)))
    }

    fn find(file: &[u8], is_it: impl Fn(&Self) -> bool) -> Option<Self> {
        file.split(|byte| *byte == b'\n').filter_map(Self::parse).find(is_it)
    }

    /// The groups beside the main one that `/etc/group` gives the user.
    pub(crate) fn groups(&self) -> Vec<u32> {
        self.groups_of(&read("/etc/group"))
    }

    fn groups_of(&self, file: &[u8]) -> Vec<u32> {
        let mut groups = vec![self.gid];
        for line in file.split(|byte| *byte == b'\n') {
            let mut fields = line.split(|byte| *byte == b':').skip(2);
            let (Some(gid), Some(members)) = (fields.next().and_then(number), fields.next()) else { continue };
            let is_member = members.split(|byte| *byte == b',').any(|member| member.trim_ascii() == self.name);
            if is_member && !groups.contains(&gid) {
                groups.push(gid);
            }
        }
        groups
    }
}

fn number(text: &[u8]) -> Option<u32> {
    if !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(text).ok()?.parse().ok()
}

fn read(path: &str) -> Vec<u8> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() && metadata.len() <= LARGEST_FILE => fs::read(path).unwrap_or_default(),
        _ => Vec::new(),
    }
}

/// What the guest found when it started.
#[derive(Debug)]
pub(crate) struct Environment {
    variables: RwLock<Variables>,
    directory: PathBuf,
    home: PathBuf,
    temporary: Option<PathBuf>,
    shell: Option<PathBuf>,
    account: Option<Account>,
    login: Vec<u8>,
}

impl Environment {
    /// Takes the environment of this process. `login` is the name that clients log in with, `identity` whom commands
    /// run as if it is not this process's user.
    ///
    /// # Errors
    /// If that user can't be taken on.
    pub(crate) fn capture(login: &[u8], identity: Option<&Identity>) -> Result<Self, String> {
        let mut variables: Variables =
            std::env::vars_os().map(|(name, value)| (name.into_vec(), value.into_vec())).collect();
        let directory = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
        let Some(identity) = identity else {
            let account = Account::by_id(rustix::process::geteuid().as_raw());
            return Ok(Self::new(variables, directory, account, login));
        };
        // It is root's.
        variables.retain(|(name, _)| name != b"HOME");
        // What can be written is asked as that user, which only a thread can become.
        let look = || identity.reach_files().map(|()| Self::new(variables, directory, identity.account.clone(), login));
        std::thread::scope(|scope| scope.spawn(look).join()).map_err(|_| "the environment can't be read".to_owned())?
    }

    fn new(mut variables: Variables, directory: PathBuf, account: Option<Account>, login: &[u8]) -> Self {
        let temporary = temporary_directory(get(&variables, b"TMPDIR"));
        let home = home_directory(get(&variables, b"HOME"), account.as_ref(), &directory, temporary.as_deref());
        set(&mut variables, b"HOME", home.as_os_str().as_bytes());
        if get(&variables, b"PATH").is_none_or(<[u8]>::is_empty) {
            set(&mut variables, b"PATH", DEFAULT_PATH);
        }
        if let Some(temporary) = &temporary
            && temporary != Path::new("/tmp")
        {
            set(&mut variables, b"TMPDIR", temporary.as_os_str().as_bytes());
        }
        let shell = shell(account.as_ref().map(|account| account.shell.as_slice()));
        let variables = RwLock::new(variables);
        Self { variables, directory, home, temporary, shell, account, login: login.to_vec() }
    }

    /// Sets variables for all commands that start from now on.
    pub(crate) fn give<'a>(&self, additions: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) {
        let mut variables = self.variables.write().unwrap_or_else(PoisonError::into_inner);
        for (name, value) in additions {
            set(&mut variables, name, value);
        }
    }

    /// The directory that commands begin in: the image's working directory.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The home directory: what the image's `HOME` or the user's line in `/etc/passwd` says. A user without a line has
    /// the working directory, else the one for temporary files, whichever can be written, else `/`.
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// A directory for temporary files, if one can be written: `TMPDIR`, `/tmp`, `/var/tmp` or `/dev/shm`. Where it is
    /// not `/tmp`, commands are told by `TMPDIR`.
    pub(crate) fn temporary(&self) -> Option<&Path> {
        self.temporary.as_deref()
    }

    /// The shell for people: that of the user's line in `/etc/passwd` if it can be executed and lets people in, else
    /// `/bin/sh`, if there is one.
    pub(crate) fn shell(&self) -> Option<&Path> {
        self.shell.as_deref()
    }

    /// The user's name in the image, else the one that clients log in with.
    pub(crate) fn user(&self) -> &[u8] {
        self.account.as_ref().map_or(&self.login, |account| &account.name)
    }

    /// The user's line in `/etc/passwd`.
    pub(crate) fn account(&self) -> Option<&Account> {
        self.account.as_ref()
    }

    /// The variables of a command: the image's with what is missing in them, then `additions`. `clear` leaves out the
    /// image's.
    pub(crate) fn variables<'a>(
        &self,
        clear: bool,
        additions: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Variables {
        let mut variables = match clear {
            true => Vec::new(),
            false => self.variables.read().unwrap_or_else(PoisonError::into_inner).clone(),
        };
        for (name, value) in additions {
            set(&mut variables, name, value);
        }
        variables
    }

    /// The variables of what a person runs by SSH, with those that a login sets.
    pub(crate) fn login_variables<'a>(
        &'a self,
        additions: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Variables {
        let user = self.user();
        let mut login: Vec<(&[u8], &[u8])> = vec![(b"USER", user), (b"LOGNAME", user)];
        if let Some(shell) = &self.shell {
            login.push((b"SHELL", shell.as_os_str().as_bytes()));
        }
        self.variables(false, login.into_iter().chain(additions))
    }

    /// The variables of a command that runs as another user: that one's `HOME`, `USER` and `LOGNAME`.
    pub(crate) fn adapt(&self, variables: &mut Variables, account: &Account) {
        let home = if account.home.is_empty() { b"/" } else { account.home.as_slice() };
        for (name, value) in [(&b"HOME"[..], home), (b"USER", &account.name), (b"LOGNAME", &account.name)] {
            set(variables, name, value);
        }
    }

    /// A command's working directory: relative ones begin at the image's.
    pub(crate) fn resolve(&self, directory: Option<&[u8]>) -> PathBuf {
        directory.map_or_else(|| self.directory.clone(), |path| self.directory.join(OsStr::from_bytes(path)))
    }
}

fn get<'a>(variables: &'a Variables, name: &[u8]) -> Option<&'a [u8]> {
    variables.iter().find(|(of, _)| of == name).map(|(_, value)| value.as_slice())
}

fn set(variables: &mut Variables, name: &[u8], value: &[u8]) {
    match variables.iter_mut().find(|(of, _)| of == name) {
        Some((_, old)) => *old = value.to_vec(),
        None => variables.push((name.to_vec(), value.to_vec())),
    }
}

fn is_writable_directory(path: &Path) -> bool {
    path.is_absolute() && path.is_dir() && is_accessible(path, Access::WRITE_OK | Access::EXEC_OK)
}

fn is_accessible(path: &Path, access: Access) -> bool {
    accessat(CWD, path, access, AtFlags::EACCESS).is_ok()
}

fn temporary_directory(said: Option<&[u8]>) -> Option<PathBuf> {
    let said = said.map(|path| PathBuf::from(OsStr::from_bytes(path)));
    let known = ["/tmp", "/var/tmp", "/dev/shm"].map(PathBuf::from);
    said.into_iter().chain(known).find(|path| is_writable_directory(path))
}

fn home_directory(
    said: Option<&[u8]>,
    account: Option<&Account>,
    directory: &Path,
    temporary: Option<&Path>,
) -> PathBuf {
    let path = |bytes: &[u8]| PathBuf::from(OsStr::from_bytes(bytes));
    match (said, account) {
        // A runtime says `/` if it finds no line for the user; then nobody has chosen it.
        (Some(said), account) if !said.is_empty() && (said != b"/" || account.is_some()) => path(said),
        (_, Some(account)) if !account.home.is_empty() => path(&account.home),
        _ => {
            let candidates = [Some(directory), temporary];
            let found = candidates.into_iter().flatten().find(|path| is_writable_directory(path));
            found.unwrap_or(Path::new("/")).to_path_buf()
        }
    }
}

fn shell(said: Option<&[u8]>) -> Option<PathBuf> {
    let said = said.map(|path| PathBuf::from(OsStr::from_bytes(path)));
    let lets_in = |path: &PathBuf| {
        !matches!(path.file_name().map(OsStr::as_bytes), None | Some(b"nologin" | b"false" | b"true" | b"sync"))
    };
    let candidates = said.filter(lets_in).into_iter().chain(["/bin/sh", "/usr/bin/sh"].map(PathBuf::from));
    candidates.into_iter().find(|path| path.is_absolute() && path.is_file() && is_accessible(path, Access::EXEC_OK))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(line: &str) -> Account {
        Account::parse(line.as_bytes()).unwrap()
    }

    #[test]
    fn lines_of_passwd() {
        let root = account("root:x:0:0:root:/root:/bin/bash");
        assert_eq!(
            (root.uid, root.gid, root.home.as_slice(), root.shell.as_slice()),
            (0, 0, &b"/root"[..], &b"/bin/bash"[..])
        );
        assert_eq!(account("a:x:1:2::/").shell, b"");
        for bad in [
            "",
            "root",
            "root:x:0",
            "root:x:zero:0::/:",
            ":x:0:0::/:",
            "+::::::",
            "a:x:4294967296:0::/:",
            "a:x:-1:0::/:",
        ] {
            assert_eq!(Account::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn groups_of_a_user() {
        let user = account("dev:x:1000:1000::/home/dev:/bin/sh");
        let file = b"root:x:0:\nwheel:x:10:root,dev\ndev:x:1000:dev\nbad\nvideo:x:44:devel\naudio:x:29:dev\n";
        assert_eq!(user.groups_of(file), [1000, 10, 29]);
    }

    #[test]
    fn what_is_missing_is_added() {
        let environment = Environment::new(vec![(b"A".to_vec(), b"1".to_vec())], "/".into(), None, b"sandbox");
        let variables = environment.variables(false, [(&b"B"[..], &b"2"[..]), (b"A", b"3")]);
        assert_eq!(get(&variables, b"PATH"), Some(DEFAULT_PATH));
        assert_eq!(get(&variables, b"A"), Some(&b"3"[..]));
        assert_eq!(get(&variables, b"B"), Some(&b"2"[..]));
        assert!(get(&variables, b"HOME").is_some());
        assert_eq!(environment.variables(true, [(&b"B"[..], &b"2"[..])]), [(b"B".to_vec(), b"2".to_vec())]);
        assert_eq!(get(&environment.login_variables([]), b"USER"), Some(&b"sandbox"[..]));
    }

    #[test]
    fn the_home_directory() {
        let user = account("dev:x:1000:1000::/home/dev:/bin/sh");
        let home = |said: Option<&str>, account: Option<&Account>, directory: &str| {
            home_directory(said.map(str::as_bytes), account, Path::new(directory), Some(Path::new("/tmp")))
        };
        assert_eq!(home(Some("/x"), Some(&user), "/"), Path::new("/x"));
        assert_eq!(home(None, Some(&user), "/"), Path::new("/home/dev"));
        assert_eq!(home(Some("/"), Some(&user), "/"), Path::new("/"));
        assert_eq!(home(Some("/"), None, "/nowhere"), Path::new("/tmp"));
        assert_eq!(home(Some("/x"), None, "/nowhere"), Path::new("/x"));
        assert_eq!(home(None, None, "/tmp"), Path::new("/tmp"));
    }

    #[test]
    fn shells_that_let_nobody_in_are_passed_over() {
        let sh = shell(None);
        for said in ["/usr/sbin/nologin", "/bin/false", "/no/such/shell", "bin/sh", "", "/etc/passwd", "/bin"] {
            assert_eq!(shell(Some(said.as_bytes())), sh, "{said}");
        }
    }
}
