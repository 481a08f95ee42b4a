//! The shortest life of a sandbox.

use sandbox::{Client, Result, SandboxSpec};

fn main() -> Result<()> {
    let client = Client::from_env()?;
    let sandbox = client.create(&SandboxSpec::new())?;
    let output = sandbox.execute("uname -n")?;
    println!("{} says {}", sandbox.name(), output.stdout_text().trim_end());
    sandbox.delete()
}
