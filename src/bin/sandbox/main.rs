//! The command `sandbox`: the library's operations for people at a terminal, over its public API alone.

mod arguments;
mod copy;
mod doctor;
mod forward;
mod guest_image;
mod key;
mod output;
mod pool;
mod run;
mod signals;
mod ssh;
mod stream;
mod terminal;
mod top;
mod verbs;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use sandbox::{Client, Config, LogLevel, Result};

use arguments::{Arguments, Connection, Verb};
use output::Failure;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let is_json = arguments.json;
    obey(arguments).unwrap_or_else(|failure| failure.tell(is_json))
}

fn obey(Arguments { connection, json, verb }: Arguments) -> std::result::Result<ExitCode, Failure> {
    let client = || connect(&connection);
    match verb {
        Verb::Create(create) => verbs::create(&client()?, create, json)?,
        Verb::Run(run) => return run::run(&client().map_err(run::failed)?, &run),
        Verb::Cp(copy) => copy::copy(&client()?, &copy, json)?,
        Verb::Forward(ports) => return forward::forward(&client()?, &ports, json),
        Verb::Ssh(arguments) => return ssh::ssh(&connection, &arguments),
        Verb::SshConfig { write } => ssh::config(&connection, write)?,
        Verb::SshProxy { host } => ssh::proxy(&client()?, &host)?,
        Verb::SshHostKey { host, searched, purpose } => ssh::host_key(client, &host, &searched, &purpose)?,
        Verb::Ls(wanted) => verbs::list(&client()?, wanted, json)?,
        Verb::Info { name } => verbs::info(&client()?, &name, json)?,
        Verb::Top(wanted) => return top::top(&client()?, &wanted, json),
        Verb::Rm { names, force } => return verbs::remove(&client()?, &names, force, json),
        Verb::Renew { name, lifetime } => verbs::renew(&client()?, &name, lifetime, json)?,
        Verb::Key(verb) => key::key(&client()?, &verb, json)?,
        Verb::Pool(verb) => return pool::pool(&client()?, verb, json),
        Verb::Reap => verbs::reap(&client()?, json)?,
        Verb::Doctor { checks } => return doctor::doctor(configure(&connection), &checks, json),
        Verb::GuestImage(arguments) => guest_image::guest_image(&arguments)?,
        Verb::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "sandbox", &mut script);
            output::bytes(&script)?;
        }
        Verb::Man { directory } => {
            let pages = clap_mangen::generate_to(Arguments::command(), &directory);
            pages.map_err(|e| Failure::here(format!("pages in {} can't be written: {e}", directory.display())))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn connect(connection: &Connection) -> Result<Client> {
    Client::new(configure(connection)?)
}

fn configure(connection: &Connection) -> Result<Config> {
    let mut config = Config::from_env()?;
    for (name, value) in &connection.set {
        config = config.set(name, value)?;
    }
    if let Some(namespace) = &connection.namespace {
        config = config.namespace(namespace);
    }
    if let Some(context) = &connection.context {
        config = config.context(context);
    }
    if let Some(kubeconfig) = &connection.kubeconfig {
        config = config.kubeconfig(kubeconfig);
    }
    config = match connection.verbose {
        0 => config,
        1 => config.log(LogLevel::Info),
        2 => config.log(LogLevel::Debug),
        _ => config.log(LogLevel::Trace),
    };
    config.init_logging()?;
    Ok(config)
}
