//! A short life of a sandbox with the library's log on standard error, at the level that `SANDBOX_LOG` says.

use sandbox::{Client, Config, Result, SandboxSpec};

fn main() -> Result<()> {
    let config = Config::from_env()?;
    config.init_logging()?;
    let client = Client::new(config)?;
    let sandbox = client.create(&SandboxSpec::new().env("PASSWORD", "hunter2"))?;
    sandbox.command("printenv").arg("TOKEN").env("TOKEN", "hunter2").stdin("hunter2").output()?.check()?;
    sandbox.delete()
}
