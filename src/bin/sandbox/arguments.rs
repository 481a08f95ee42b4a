//! What can be typed.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum, ValueHint};
use jiff::{Span, SpanRelativeTo};
use sandbox::{Local, OnMiss, Phase, Target};

/// Disposable Linux machines on your own Kubernetes
///
/// Create a sandbox, run commands in it, copy files in and out, delete it. A sandbox is a Pod with an SSH server;
/// nothing else has to be installed in the cluster.
#[derive(Parser, Debug)]
#[command(name = "sandbox", version, arg_required_else_help = true, after_long_help = AFTER_HELP)]
pub(crate) struct Arguments {
    /// Print results as JSON, and a failure as one JSON object on standard error
    #[arg(long, global = true)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) connection: Connection,

    #[command(subcommand)]
    pub(crate) verb: Verb,
}

const AFTER_HELP: &str = "\
Examples:
  name=$(sandbox create --lifetime 30m)
  sandbox cp project $name:
  sandbox run -w project $name make test
  sandbox run -t $name bash
  sandbox cp $name:project/report.html .
  sandbox rm $name

Settings: SANDBOX_NAMESPACE, SANDBOX_IMAGE and so on, in the environment or in a .env file. Options win over them.

Durations: 90s, 5m, 1h30m, 2d; a number alone is seconds; none, where it is allowed, is without a limit.

JSON: create, pool claim and info print an object, ls a list of such, top a list of what is used, rm and reap a list of names, ls --watch an object for each change, the other verbs of pool an \
object with counts, doctor one with checks; times are as in \
2026-01-31T23:59:59Z, and null is what is not known or does not exist. A failure has its kind, message and verdict as \
the library has them.

Exit status: 0 done, 1 failed, 2 not understood, 128+N ended by signal N. That of sandbox run is the command's.";

const AFTER_CREATE_HELP: &str = "\
A creation that is interrupted, by Ctrl-C for one, may leave a sandbox: sandbox ls shows it, and it expires as any \
other.

Examples:
  sandbox create --image registry.example/tools:3 --env STAGE=test --memory 2Gi
  sandbox create --name box --lifetime 8h --json";

const AFTER_DOCTOR_HELP: &str = "\
Checks: config, process, api-server, clock, identity, rights-pods, rights-portforward, rights-exec, rights-events, \
namespace, quota, network-policy, guest, pod, and by name only sandbox, the life of a real one.

Exit status: 0 if sandboxes work here, also with warnings; 1 if they don't; 2 if the arguments were not understood.

Examples:
  sandbox doctor
  sandbox doctor rights-pods pod
  sandbox doctor sandbox --json";

const AFTER_FILL_HELP: &str = "\
With SANDBOX_SSH_KEY set to the same key here and where sandboxes are claimed, claiming takes one API call; else it takes the \
right to execute commands in Pods. The lifetime counts from the claim on.

Examples:
  sandbox pool fill graders --size 20 --image registry.example/tools:3
  sandbox pool fill graders --size 20 --watch";

const AFTER_CLAIM_HELP: &str = "\
Examples:
  name=$(sandbox pool claim graders --image registry.example/tools:3 --claim-env TASK=17)
  sandbox pool claim graders --on-miss wait --claim-file task.json=/tmp/task.json --json";

const AFTER_RUN_HELP: &str = "\
Options come before the command; -- may stand before it.

Exit status: that of the command, or 128+N if signal N ended it. Of sandbox itself:
    2  the arguments were not understood
  124  --timeout was reached and the command killed
  127  the command did not run: no such program or directory, or no right to it
  255  anything else; the message says so if the command may have run

Signals: INT, TERM, HUP and QUIT are passed on to the command; a second one kills it, a third one ends sandbox at \
once. With --tty, Ctrl-C and the like are keys for the command's terminal.

Examples:
  sandbox run box make test
  sandbox run -t box bash
  sandbox run -e STAGE=test -w project box -- sh -c 'echo $STAGE; pwd'
  tar -c src | sandbox run box tar -x -C /tmp";

const AFTER_COPY_HELP: &str = "\
One side is NAME:PATH, in a sandbox, where a relative path begins at the image's working directory. The other side is \
here; write ./a:b for a local name with a colon. As with cp -r and scp -r, what is copied goes into DST if that is a \
directory, else it gets that name; SRC/. means what is in the directory.

A file arrives whole or not at all, and one that is there keeps its permissions. Links are followed, devices, pipes \
and terminals are written into. '~' is no home directory in a sandbox. A directory travels as one stream; in one that is \
there, its files and links take the places of others. What can't be copied (sockets, devices, and from a sandbox links \
that lead out of the directory) is left out and told.

Examples:
  sandbox cp input.csv box:/tmp
  sandbox cp project box:
  sandbox cp box:project/out results
  sandbox cp --resume box:/data/model.bin .";

const AFTER_FORWARD_HELP: &str = "\
PORT is a port of the sandbox's own loopback addresses, or the path of a Unix socket in it. LOCAL is a port of 127.0.0.1, \
ADDRESS:PORT, or the path of a Unix socket; left out it is the same port, and 0 is one that the system chooses. What \
listens need not be there yet. With -v each connection is told.

Examples:
  sandbox forward box 8080
  sandbox forward box 9000:8080 0.0.0.0:5432:5432
  sandbox forward box 2375:/var/run/docker.sock";

const AFTER_TOP_HELP: &str = "\
CPU% is that of one processor since the line before, MEMORY is with the files that the kernel keeps in memory for the \
sandbox. With --json there is one line for each time, and in it more: throttling, the disk, the network. The sandboxes \
answer by themselves: no metrics server is needed.

Examples:
  sandbox top
  sandbox top box --json
  sandbox top --interval 10s > log";

const AFTER_LS_HELP: &str = "\
Options choose together: --label a=1 --label b=2 is what has both, --phase failed --phase succeeded is what is in either.

Examples:
  sandbox ls --owner ci --label run=17 --sort age
  sandbox ls --phase failed --phase succeeded --json
  sandbox ls --watch --json --owner ci
  sandbox ls --quiet --owner ci --older-than 1d | xargs --no-run-if-empty sandbox rm";

const AFTER_SSH_HELP: &str = "\
All that follows the name is ssh's: its options, then a command line for the sandbox's shell. The host key is that of the \
sandbox, whatever known_hosts says. The key to log in with is that of the setting ssh_key, else ~/.ssh/sandbox_ed25519, \
which is made if it is not there.

Exit status: that of ssh, which is that of the command, or 255.

Examples:
  sandbox ssh box
  sandbox ssh box 'ls | wc -l'
  sandbox ssh box -N -D 1080";

const AFTER_SSH_CONFIG_HELP: &str = "\
The options of this call for the connection to Kubernetes become part of what is printed. With --write nothing of the \
user's own is changed but one line, which is shown before. The key is as for sandbox ssh.

Examples:
  sandbox ssh-config --write
  rsync -a project box.sandbox:
  scp box.sandbox:report.html .
  git clone box.sandbox:project";

const AFTER_GUEST_IMAGE_HELP: &str = "\
Examples:
  sandbox guest-image guest.tar
  kind load image-archive guest.tar
  ctr --namespace k8s.io images import guest.tar
  skopeo copy oci-archive:guest.tar docker://registry.example/sandbox-guest:1
  export SANDBOX_GUEST_IMAGE=registry.example/sandbox-guest:1";

#[derive(Args, Debug)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Connection {
    /// Kubernetes namespace of the sandboxes [default: as configured, else the context's]
    #[arg(short, long, global = true)]
    pub(crate) namespace: Option<String>,

    /// Context in the kubeconfig [default: its current one]
    #[arg(long, global = true)]
    pub(crate) context: Option<String>,

    /// Kubeconfig file [default: as kubectl finds it]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,

    /// Change any setting of the library, such as transport=tunnel or owner=ci
    #[arg(long, global = true, value_name = "NAME=VALUE", value_parser = setting)]
    pub(crate) set: Vec<(String, String)>,

    /// Tell what is done; twice or three times for more
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Verb {
    /// Create a sandbox, wait until it takes commands, and print its name
    ///
    /// It expires after its lifetime unless `sandbox renew` moves that. One that fails to start is deleted again.
    #[command(after_long_help = AFTER_CREATE_HELP)]
    Create(Create),

    /// Run a command in a sandbox, with its input, output and exit status
    ///
    /// Input, output and errors are those of this program, as bytes. Without --tty the command has no terminal.
    #[command(after_long_help = AFTER_RUN_HELP)]
    Run(Run),

    /// Copy files and directories into or out of a sandbox
    #[command(after_long_help = AFTER_COPY_HELP)]
    Cp(Copy),

    /// Make ports of a sandbox ports of this machine, until Ctrl-C or the end of the sandbox
    #[command(after_long_help = AFTER_FORWARD_HELP)]
    Forward(Forward),

    /// Log in to a sandbox with OpenSSH's ssh, or run a command line through it
    #[command(after_long_help = AFTER_SSH_HELP)]
    Ssh(Ssh),

    /// Print what OpenSSH's configuration needs, so that ssh, scp, sftp, rsync and git reach NAME.sandbox
    #[command(after_long_help = AFTER_SSH_CONFIG_HELP)]
    SshConfig {
        /// Write it to ~/.ssh/sandbox.conf, and include that in ~/.ssh/config
        #[arg(long)]
        write: bool,
    },

    /// Connect standard input and output to the SSH server of a sandbox: OpenSSH's ProxyCommand
    #[command(hide = true)]
    SshProxy {
        /// Name of the sandbox, with or without .sandbox behind it
        host: String,
    },

    /// Print the host key of a sandbox: OpenSSH's KnownHostsCommand
    #[command(hide = true)]
    SshHostKey {
        /// Name of the sandbox, with or without .sandbox behind it
        host: String,

        /// The name that ssh looks for
        searched: String,

        /// What ssh asks for: the key of a HOSTNAME, or the ORDER of algorithms
        purpose: String,
    },

    /// List the sandboxes of the namespace
    #[command(visible_alias = "list", after_long_help = AFTER_LS_HELP)]
    Ls(List),

    /// Tell all about a sandbox
    Info {
        /// Name of the sandbox
        name: String,
    },

    /// Show what sandboxes use: processor time, memory, processes
    ///
    /// On a terminal the table is drawn anew every two seconds, until Ctrl-C; else it is printed once.
    #[command(after_long_help = AFTER_TOP_HELP)]
    Top(Top),

    /// Delete sandboxes and wait until they are gone
    Rm {
        /// Names of the sandboxes
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,

        /// One that does not exist is no failure
        #[arg(short, long)]
        force: bool,
    },

    /// Let a sandbox live for so long from now on, and print when it expires
    Renew {
        /// Name of the sandbox
        name: String,

        /// Time from now, such as 90s, 30m or 2h
        #[arg(value_name = "DURATION", value_parser = duration)]
        lifetime: Duration,
    },

    /// Let somebody else log in to a sandbox with OpenSSH, for a time
    #[command(subcommand)]
    Key(KeyVerb),

    /// Keep sandboxes ready before they are wanted, and take one
    #[command(subcommand)]
    Pool(PoolVerb),

    /// Delete all sandboxes of the namespace that have expired, whoever owns them, and print their names
    Reap,

    /// Find out what stands in the way of a sandbox
    ///
    /// Tells the settings and where they came from, the way to the API server, the rights there, quotas and policies of
    /// the namespace, and whether the cluster would take the Pod of a sandbox, which it is asked without making one.
    /// What can be done about a finding stands below it.
    #[command(after_long_help = AFTER_DOCTOR_HELP)]
    Doctor {
        /// The checks to make [default: all but sandbox]
        #[arg(value_name = "CHECK")]
        checks: Vec<String>,
    },

    /// Write the image of the guest, the main process of sandboxes, as an OCI archive
    ///
    /// Clusters need it for sandboxes in images that do not have the guest (settings guest and guest_image). It is made
    /// without a builder or a registry, and from the same guest the same bytes are written.
    #[command(after_long_help = AFTER_GUEST_IMAGE_HELP)]
    GuestImage(GuestImage),

    /// Print a script that completes this command's arguments
    ///
    /// For bash, for one: sandbox completions bash > /etc/bash_completion.d/sandbox
    Completions {
        /// The shell that it is for
        shell: clap_complete::Shell,
    },

    /// Write this command's manual pages, sandbox.1 and one for each verb
    Man {
        /// Where to, a directory that is there
        directory: PathBuf,
    },
}

/// Pools are known by name; what one has is in the cluster, so fill and claim may run on different machines.
#[derive(Subcommand, Debug)]
pub(crate) enum PoolVerb {
    /// Make what a pool lacks, and retire what has ended, is too old or was made from an older spec
    #[command(after_long_help = AFTER_FILL_HELP)]
    Fill(PoolFill),

    /// Take a sandbox that is ready, and print its name
    ///
    /// It was made from the options that the pool was filled with, so those are to be given here too.
    #[command(after_long_help = AFTER_CLAIM_HELP)]
    Claim(PoolClaim),

    /// Tell what there is of a pool
    Status {
        /// Name of the pool
        pool: String,

        #[command(flatten)]
        spec: Spec,
    },

    /// Delete the sandboxes of a pool that nobody has claimed
    Drain {
        /// Name of the pool
        pool: String,
    },

    /// Delete the sandboxes of a pool that nobody has claimed, and wait until they are gone
    Rm {
        /// Name of the pool
        pool: String,
    },
}

#[derive(Args, Debug)]
pub(crate) struct PoolFill {
    /// Name of the pool: at most 36 lower-case letters, digits and -
    pub(crate) pool: String,

    /// How many sandboxes to keep ready
    #[arg(long, value_name = "NUMBER", default_value_t = 4)]
    pub(crate) size: usize,

    /// Time after which one that nobody has claimed is replaced, such as 30m
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "1h")]
    pub(crate) idle_lifetime: Duration,

    /// How many are made at the same time
    #[arg(long, value_name = "NUMBER", default_value_t = 4)]
    pub(crate) creates_at_once: usize,

    /// How many are begun in a second
    #[arg(long, value_name = "NUMBER", default_value_t = 10.0)]
    pub(crate) creates_per_second: f64,

    /// Keep at it until interrupted
    #[arg(long)]
    pub(crate) watch: bool,

    #[command(flatten)]
    pub(crate) spec: Spec,
}

#[derive(Args, Debug)]
pub(crate) struct PoolClaim {
    /// Name of the pool
    pub(crate) pool: String,

    /// What to do if nothing is ready: create a sandbox, wait until there is one, or fail
    #[arg(long, value_name = "create|wait|fail", default_value = "create")]
    pub(crate) on_miss: OnMiss,

    /// Environment variable for all that runs in it from now on; NAME alone takes its value from here
    #[arg(long, value_name = "NAME[=VALUE]", value_parser = OsStringValueParser::new().try_map(variable))]
    pub(crate) claim_env: Vec<(OsString, OsString)>,

    /// Kubernetes label of its Pod from now on
    #[arg(long, value_name = "NAME=VALUE", value_parser = setting)]
    pub(crate) claim_label: Vec<(String, String)>,

    /// Whose it is from now on [default: SANDBOX_OWNER]
    #[arg(long)]
    pub(crate) claim_owner: Option<String>,

    /// Local file to write into it first
    #[arg(long, value_name = "LOCAL=PATH", value_parser = setting)]
    pub(crate) claim_file: Vec<(String, String)>,

    #[command(flatten)]
    pub(crate) spec: Spec,
}

#[derive(Args, Debug)]
pub(crate) struct Create {
    /// Name of the sandbox [default: sandbox- and 16 random hexadecimal digits]
    #[arg(long)]
    pub(crate) name: Option<String>,

    #[command(flatten)]
    pub(crate) spec: Spec,
}

#[derive(Args, Debug)]
pub(crate) struct Spec {
    /// Image to run [default: SANDBOX_IMAGE]
    #[arg(long)]
    pub(crate) image: Option<String>,

    /// Environment variable for all that runs in it; NAME alone takes its value from here
    #[arg(short, long, value_name = "NAME[=VALUE]", value_parser = OsStringValueParser::new().try_map(variable))]
    pub(crate) env: Vec<(OsString, OsString)>,

    /// Kubernetes label of its Pod
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = setting)]
    pub(crate) label: Vec<(String, String)>,

    /// The most CPU that it may use, such as 500m or 2 [default: 1]
    #[arg(long, value_name = "QUANTITY")]
    pub(crate) cpu: Option<String>,

    /// The most memory that it may use, such as 512Mi [default: 1Gi]
    #[arg(long, value_name = "QUANTITY")]
    pub(crate) memory: Option<String>,

    /// The most disk space that it may use, such as 2Gi [default: no limit]
    #[arg(long, value_name = "QUANTITY")]
    pub(crate) disk: Option<String>,

    /// Time until it expires, such as 30m or none [default: SANDBOX_LIFETIME, one hour]
    #[arg(long, value_name = "DURATION", value_parser = limit)]
    pub(crate) lifetime: Option<Limit>,

    /// Time without use after which it stops by itself, such as 10m [default: none]
    #[arg(long, value_name = "DURATION", value_parser = limit)]
    pub(crate) idle_timeout: Option<Limit>,

    /// Leave the user and group that it runs as to the cluster and the image [default: 1000]
    #[arg(long)]
    pub(crate) user_from_cluster: bool,

    /// User of commands and files below a guest that runs as root, of /etc/passwd or as UID:GID [default: the guest's]
    #[arg(long, value_name = "USER", conflicts_with = "user_from_cluster")]
    pub(crate) commands_as: Option<String>,

    /// Runtime class, such as gvisor [default: the cluster's]
    #[arg(long, value_name = "CLASS")]
    pub(crate) runtime_class: Option<String>,

    /// File with a Pod in JSON to merge over the one that is made: reaches every field that Kubernetes has
    #[arg(long, value_name = "FILE")]
    pub(crate) pod_template: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct Run {
    /// Name of the sandbox
    pub(crate) name: String,

    /// Run it on a terminal, for shells and editors
    #[arg(short, long)]
    pub(crate) tty: bool,

    /// Read no input, as ssh -n does: for loops that read their own
    #[arg(long, conflicts_with = "tty")]
    pub(crate) no_stdin: bool,

    /// Environment variable for the command; NAME alone takes its value from here
    #[arg(short, long, value_name = "NAME[=VALUE]", value_parser = OsStringValueParser::new().try_map(variable))]
    pub(crate) env: Vec<(OsString, OsString)>,

    /// Directory to run in [default: the image's working directory]
    #[arg(short, long, value_name = "DIRECTORY")]
    pub(crate) workdir: Option<OsString>,

    /// User to run as; another one than the sandbox's own takes a sandbox that runs as root
    #[arg(short, long)]
    pub(crate) user: Option<String>,

    /// Kill the command after this time, such as 90s, in which connecting counts too [default: none]
    #[arg(long, value_name = "DURATION", value_parser = limit)]
    pub(crate) timeout: Option<Limit>,

    /// The command and its arguments, exactly as given; no shell reads them
    #[arg(required = true, trailing_var_arg = true)]
    pub(crate) command: Vec<OsString>,
}

#[derive(Args, Debug)]
pub(crate) struct Copy {
    /// What to copy: a file or a directory, here or as NAME:PATH
    #[arg(value_name = "SRC", value_hint = ValueHint::AnyPath)]
    pub(crate) source: OsString,

    /// Where to: NAME:PATH or here
    #[arg(value_name = "DST", value_hint = ValueHint::AnyPath)]
    pub(crate) target: OsString,

    /// Compare the SHA-256 of every file on both sides
    #[arg(long)]
    pub(crate) checksum: bool,

    /// Keep what has arrived of a file if it fails, and go on from there the next time; includes --checksum
    #[arg(long)]
    pub(crate) resume: bool,

    /// Show no progress, which is only shown on a terminal anyway
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Subcommand, Debug)]
pub(crate) enum KeyVerb {
    /// Let whoever has the private key log in
    Add {
        /// Name of the sandbox
        name: String,

        /// File with the public key, such as id_ed25519.pub; - is the standard input
        #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
        file: PathBuf,

        /// Time from now, such as 90s, 30m or 2h; else it is good as long as the sandbox lives
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        lifetime: Option<Duration>,
    },

    /// Print the keys that were let in, as in authorized_keys, and when they end
    Ls {
        /// Name of the sandbox
        name: String,
    },

    /// Let a key log in no longer, and close its connections
    Rm {
        /// Name of the sandbox
        name: String,

        /// File with the public key; - is the standard input
        #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
}

#[derive(Args, Debug)]
pub(crate) struct List {
    /// Only those of this owner
    #[arg(long)]
    pub(crate) owner: Option<String>,

    /// Only those with this Kubernetes label
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = setting)]
    pub(crate) label: Vec<(String, String)>,

    /// Only those in this phase: pending, running, succeeded, failed, unknown or terminating
    #[arg(long, visible_alias = "state")]
    pub(crate) phase: Vec<Phase>,

    /// Only those created longer ago than this, such as 1d
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) older_than: Option<Duration>,

    /// Only those created no longer ago than this
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) younger_than: Option<Duration>,

    /// By name, by age with the oldest first, or by expiry with the next one first
    #[arg(long, value_enum, value_name = "name|age|expiry", default_value_t = Order::Name, hide_possible_values = true)]
    pub(crate) sort: Order,

    /// Only their names
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// Tell what becomes of them, a line for each change, until interrupted
    #[arg(short, long, conflicts_with_all = ["older_than", "younger_than", "sort", "quiet"])]
    pub(crate) watch: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Order {
    Name,
    Age,
    Expiry,
}

#[derive(Args, Debug)]
pub(crate) struct Top {
    /// Names of the sandboxes; without any, all of the namespace that run
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,

    /// Print it again and again, with this time between, such as 10s
    #[arg(short, long, value_name = "DURATION", value_parser = duration)]
    pub(crate) interval: Option<Duration>,
}

#[derive(Args, Debug)]
pub(crate) struct Forward {
    /// Name of the sandbox
    pub(crate) name: String,

    /// What to forward
    #[arg(required = true, value_name = "[LOCAL:]PORT", value_parser = port)]
    pub(crate) ports: Vec<(Local, Target)>,
}

#[derive(Args, Debug)]
pub(crate) struct Ssh {
    /// Name of the sandbox
    pub(crate) name: String,

    /// Options of ssh, and a command line for the sandbox's shell
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) arguments: Vec<OsString>,
}

#[derive(Args, Debug)]
pub(crate) struct GuestImage {
    /// Where to write it; - is standard output
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,

    /// Name of the image in the archive
    #[arg(long, default_value = "localhost/sandbox-guest:dev")]
    pub(crate) name: String,

    /// The guest [default: the one built into this command, else sandbox-guest beside it]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) program: Option<PathBuf>,
}

/// A duration, or no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit(pub(crate) Option<Duration>);

fn limit(text: &str) -> Result<Limit, &'static str> {
    if text == "none" { Ok(Limit(None)) } else { duration(text).map(|duration| Limit(Some(duration))) }
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    const ALLOWED: &str = "a duration is a number of seconds, or like 90s, 5m, 1h30m or 2d";
    let parsed = match text.parse() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        Err(_) => text.parse::<Span>().ok().and_then(|span| {
            let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
            Duration::try_from(duration).ok()
        }),
    };
    parsed.filter(|duration| !duration.is_zero()).ok_or(ALLOWED)
}

/// What to forward, and where from: the same port of this machine if that is left out.
fn port(text: &str) -> Result<(Local, Target), sandbox::Error> {
    let (local, target) = match text.rsplit_once(':') {
        Some((local, target)) => (Some(local), target.parse()?),
        None => (None, text.parse()?),
    };
    let local = match (local, &target) {
        (Some(""), _) => Local::from(0),
        (Some(local), _) => local.parse()?,
        (None, Target::Port(port)) => Local::from(*port),
        (None, _) => Local::from(0),
    };
    Ok((local, target))
}

fn setting(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text.split_once('=').ok_or("it has no '='")?;
    Ok((name.into(), value.into()))
}

/// A variable with the value that is given, or the one that it has here.
fn variable(text: OsString) -> Result<(OsString, OsString), &'static str> {
    let bytes = text.as_bytes();
    match bytes.iter().position(|byte| *byte == b'=') {
        Some(at) => Ok((OsStr::from_bytes(&bytes[..at]).into(), OsString::from_vec(bytes[at + 1..].into()))),
        None => std::env::var_os(&text).map(|value| (text, value)).ok_or("it has no value here"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_as_people_write_them() {
        for (text, seconds) in [("90", 90.0), ("0.5", 0.5), ("90s", 90.0), ("1h30m", 5400.0), ("1h 30m", 5400.0)] {
            assert_eq!(duration(text), Ok(Duration::from_secs_f64(seconds)), "{text}");
        }
        assert_eq!(duration("2d"), Ok(Duration::from_secs(2 * 86_400)));
        for text in ["", "0", "-1", "-5m", "soon", "nan", "1e300", "5 x"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert_eq!((limit("none"), limit("1m")), (Ok(Limit(None)), Ok(Limit(Some(Duration::from_secs(60))))));
    }

    #[test]
    fn ports_are_as_people_write_them() {
        for (text, local, target) in [
            ("8080", "127.0.0.1:8080", "8080"),
            ("9000:8080", "127.0.0.1:9000", "8080"),
            (":8080", "127.0.0.1:0", "8080"),
            ("0.0.0.0:9000:8080", "0.0.0.0:9000", "8080"),
            ("[::1]:9000:8080", "[::1]:9000", "8080"),
            ("localhost:9000:8080", "127.0.0.1:9000", "8080"),
            ("/run/a.sock", "127.0.0.1:0", "/run/a.sock"),
            ("/tmp/b.sock:/run/a.sock", "/tmp/b.sock", "/run/a.sock"),
        ] {
            let (found, to) = port(text).unwrap();
            assert_eq!((&*found.to_string(), &*to.to_string()), (local, target), "{text}");
        }
        for text in ["", "http", "0", "8080:", "70000:80", "example.com:80:80", "80:"] {
            assert!(port(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_arguments_are_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }
}
