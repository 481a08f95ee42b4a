//! Creates as many sandboxes at once as its argument says, and deletes them.

use std::thread;

use sandbox::{Client, Result, SandboxSpec};

fn main() -> Result<()> {
    let count: usize = std::env::args().nth(1).and_then(|count| count.parse().ok()).unwrap_or(10);
    let client = Client::from_env()?;
    thread::scope(|scope| {
        let creations: Vec<_> =
            (0..count).map(|_| scope.spawn(|| client.create(&SandboxSpec::new())?.delete())).collect();
        creations.into_iter().filter_map(|creation| creation.join().ok()).collect()
    })
}
