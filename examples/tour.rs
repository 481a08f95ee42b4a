//! Every operation once, by the names that the original Python SDK gave them where it had one.

use std::time::Duration;

use sandbox::{Claim, Client, OnMiss, OutputStream, PoolOptions, Result, SandboxSpec};

fn main() -> Result<()> {
    let client = Client::from_env()?;
    let spec = SandboxSpec::new().env("GREETING", "hello").lifetime(Duration::from_secs(600));
    let sandbox = client.create_sandbox(&spec)?;
    let name = sandbox.name();
    println!("created {name} in namespace {}", client.namespace());

    let output = client.execute_command(name, "echo $GREETING from $(id -un)")?.check()?;
    print!("{}", output.stdout_text());

    let sorted = sandbox.command("sort").arg("-r").stdin("a\nb\n").output()?.check()?;
    assert_eq!(sorted.stdout, b"b\na\n");

    let mut lines = 0;
    let status = sandbox.shell("seq 100000").stream(|stream, bytes| {
        if stream == OutputStream::Stdout {
            lines += bytes.iter().filter(|byte| **byte == b'\n').count();
        }
        Ok(())
    })?;
    println!("{lines} lines, {status}");

    let local = std::env::temp_dir().join(name);
    sandbox.files().write("numbers", "1 2 3\n")?;
    println!("{} bytes down", client.download_file(name, "numbers", &local)?);
    println!("{} bytes up", client.upload_file(name, &local, "copy")?);
    std::fs::remove_file(&local).ok();
    assert_eq!(sandbox.files().read("copy")?, b"1 2 3\n");

    // Another client has another key; the API server decides whether it may have the sandbox.
    let other = Client::from_env()?.attach(name)?;
    println!("attached: {}", other.execute("cat copy")?.stdout_text().trim_end());

    sandbox.renew(Duration::from_secs(60))?;
    let info = client.get_sandbox_info(name)?;
    println!("{:?} on {:?} at {:?}, expires {:?}", info.phase, info.node, info.pod_ip, info.expires_at);
    println!("{} sandboxes here, {} reaped", client.list()?.len(), client.reap()?.len());

    let pool = client.pool("tour", &SandboxSpec::new(), &PoolOptions::new().size(1))?;
    println!("{} made for a pool", pool.fill()?.created);
    let claimed = pool.claim(&Claim::new().on_miss(OnMiss::Fail))?;
    println!("claimed: {}", claimed.execute("echo here")?.stdout_text().trim_end());
    claimed.delete()?;
    pool.remove()?;

    client.shutdown_sandbox(name)?;
    println!("deleted {name}");
    Ok(())
}
