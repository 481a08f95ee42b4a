//! The life of a sandbox, with the time of each phase.

use std::time::Instant;

use sandbox::{Client, Result, SandboxSpec};

fn main() -> Result<()> {
    let began = Instant::now();
    let client = Client::from_env()?;
    let sandbox = client.create(&SandboxSpec::new())?;
    if let Some(t) = sandbox.timings() {
        println!("create    {:>8.1?}  Pod accepted", t.accepted);
        println!("          {:>8.1?}  container started", t.started);
        println!("          {:>8.1?}  logged in: {} takes commands", t.logged_in, sandbox.name());
    }

    let step = Instant::now();
    let output = sandbox.execute("echo hello from $(uname -n)")?;
    println!("execute   {:>8.1?}  {}: {}", step.elapsed(), output.status, output.stdout_text().trim_end());

    let step = Instant::now();
    sandbox.files().write("greeting", "hello, file\n")?;
    println!("write     {:>8.1?}  12 bytes", step.elapsed());

    let step = Instant::now();
    let bytes = sandbox.files().read("greeting")?;
    println!("read      {:>8.1?}  {} bytes", step.elapsed(), bytes.len());

    let step = Instant::now();
    sandbox.delete()?;
    println!("delete    {:>8.1?}  the Pod is gone", step.elapsed());
    println!("total     {:>8.1?}  with {} API requests", began.elapsed(), client.stats().api_requests);
    Ok(())
}
