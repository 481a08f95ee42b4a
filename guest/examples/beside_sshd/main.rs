//! The guest beside OpenSSH's sshd, on this machine: the same client (libssh2) against both, rounds interleaved,
//! medians and ratios. `make bench` measures the library in a cluster; this shows in a minute what a change of the
//! guest did.
//!
//! ```text
//! cargo run --profile guest -p sandbox-guest --example beside_sshd [-- WORK ...]
//! cargo run --profile guest -p sandbox-guest --example beside_sshd -- soak [COMMANDS]
//! cargo run --profile guest -p sandbox-guest --example beside_sshd -- profile [WORK]
//! ```
//!
//! The works are `login`, `warm`, `threads`, `output`, `download`, `upload` and `memory`; all of them if none is named.
//! `soak` runs many commands and looks at the guest's memory. `profile` repeats a work against the guest alone and says
//! its process number, for `perf` or `strace`. It takes `sshd` and `ssh-keygen` of OpenSSH.

mod client;
mod server;
mod table;

use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use client::{Client, Commands};
use server::{Place, Server};
use table::{Bar, Table};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const MIB: usize = 1 << 20;
/// What moves in the works about throughput.
const BYTES: usize = 512 * MIB;
const ROUNDS: usize = 5;
const LOGINS: usize = 8;
const WARM: usize = 40;
const THREADS: usize = 64;
const EACH: usize = 8;
const IDLE: usize = 100;
/// Commands of a soak, and what the guest may have grown by at its end, in KiB.
const SOAK: usize = 100_000;
const GROWTH: f64 = 512.0;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words[..] {
        // The guest starts its zygote from its own program, which is this one.
        ["keeper", ..] => return ExitCode::from(u8::from(sandbox_guest::process::zygote_main() != 0)),
        ["serve", port, user, key] => server::serve(port, user, key),
        ["soak", ..] => soak(words.get(1).copied()),
        ["profile", ..] => profile(words.get(1).copied().unwrap_or("warm")),
        _ => compare(&words),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("beside_sshd: {e}");
            ExitCode::FAILURE
        }
    }
}

/// A work and its name.
type Work = (&'static str, fn(&Place, &Server, &Server) -> Result<Vec<Table>>);

fn compare(wanted: &[&str]) -> Result<()> {
    const WORKS: [Work; 7] = [
        ("login", login),
        ("warm", warm),
        ("threads", threads),
        ("output", output),
        ("download", download),
        ("upload", upload),
        ("memory", memory),
    ];
    if let Some(unknown) = wanted.iter().find(|name| WORKS.iter().all(|(known, _)| known != *name)) {
        return Err(format!("there is no work {unknown}").into());
    }
    let place = Place::new()?;
    let (guest, sshd) = (Server::guest(&place)?, Server::sshd(&place)?);
    println!("load before: {}", load()?);
    table::header();
    for (name, work) in WORKS {
        if wanted.is_empty() || wanted.contains(&name) {
            work(&place, &guest, &sshd)?.iter().for_each(Table::print);
        }
    }
    println!("load after: {}", load()?);
    Ok(())
}

fn load() -> Result<String> {
    Ok(std::fs::read_to_string("/proc/loadavg")?.split(' ').take(2).collect::<Vec<_>>().join(" "))
}

fn timed(run: impl FnOnce() -> Result<()>) -> Result<f64> {
    let began = Instant::now();
    run()?;
    Ok(began.elapsed().as_secs_f64())
}

/// Each gets its turn in each round; every other round goes backwards, so that a machine that gets slower shows in all
/// alike.
fn rounds(sides: &mut [&mut dyn FnMut() -> Result<()>]) -> Result<()> {
    for round in 0..ROUNDS {
        let order: Vec<usize> =
            if round % 2 == 0 { (0..sides.len()).collect() } else { (0..sides.len()).rev().collect() };
        for index in order {
            sides[index]()?;
        }
    }
    Ok(())
}

fn login(place: &Place, guest: &Server, sshd: &Server) -> Result<Vec<Table>> {
    let mut times = [Vec::new(), Vec::new()];
    let [ours, theirs] = &mut times;
    let side = |server: &Server, times: &mut Vec<f64>| -> Result<()> {
        for _ in 0..LOGINS {
            let mut opened = None;
            times.push(1e3 * timed(|| Client::connect(place, server).map(|client| opened = Some(client)))?);
        }
        Ok(())
    };
    rounds(&mut [&mut || side(guest, ours), &mut || side(sshd, theirs)])?;
    Ok(vec![Table::new("connect and log in", "ms", &times, Some(Bar::AtMost(0.2)))])
}

fn warm(place: &Place, guest: &Server, sshd: &Server) -> Result<Vec<Table>> {
    let (of_guest, of_sshd) = (Client::connect(place, guest)?, Client::connect(place, sshd)?);
    let mut commands = Commands::open(&of_guest)?;
    let [mut program, mut line, mut theirs] = [Vec::new(), Vec::new(), Vec::new()];
    let side = |times: &mut Vec<f64>, run: &mut dyn FnMut() -> Result<()>| -> Result<()> {
        for _ in 0..WARM {
            times.push(1e3 * timed(&mut *run)?);
        }
        Ok(())
    };
    rounds(&mut [
        &mut || side(&mut program, &mut || commands.run(&["true"])),
        &mut || side(&mut theirs, &mut || of_sshd.exec("true")),
        &mut || side(&mut line, &mut || of_guest.exec("true")),
    ])?;
    Ok(vec![
        Table::new("warm `true` as program", "ms", &[program, theirs.clone()], Some(Bar::AtMost(0.55))),
        Table::new("warm `true` as line", "ms", &[line, theirs], None),
    ])
}

fn threads(place: &Place, guest: &Server, sshd: &Server) -> Result<Vec<Table>> {
    let connect = |server| (0..THREADS).map(|_| Client::connect(place, server)).collect::<Result<Vec<_>>>();
    let (of_guest, of_sshd) = (connect(guest)?, connect(sshd)?);
    let mut commands = of_guest.iter().map(Commands::open).collect::<Result<Vec<_>>>()?;
    let [mut program, mut line, mut theirs] = [Vec::new(), Vec::new(), Vec::new()];
    let rate = |seconds: f64| (THREADS * EACH) as f64 / seconds;
    let execs = |clients: &[Client], rates: &mut Vec<f64>| -> Result<()> {
        rates.push(rate(at_once(clients.iter(), |client| client.exec("true"))?));
        Ok(())
    };
    rounds(&mut [
        &mut || {
            program.push(rate(at_once(commands.iter_mut(), |commands| commands.run(&["true"]))?));
            Ok(())
        },
        &mut || execs(&of_sshd, &mut theirs),
        &mut || execs(&of_guest, &mut line),
    ])?;
    Ok(vec![
        Table::new("64 threads, `true` as program", "/s", &[program, theirs.clone()], Some(Bar::AtLeast(1.6))),
        Table::new("64 threads, `true` as line", "/s", &[line, theirs], None),
    ])
}

/// Seconds in which each of the items, on a thread of its own, has done the work so many times.
fn at_once<T: Send>(items: impl Iterator<Item = T>, work: impl Fn(&mut T) -> Result<()> + Sync) -> Result<f64> {
    let began = Instant::now();
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> =
            items.map(|mut item| scope.spawn(move || (0..EACH).try_for_each(|_| work(&mut item)))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a thread panicked")?)
    })?;
    Ok(began.elapsed().as_secs_f64())
}

/// Throughput and the server's processor time.
fn moves(
    what: &str,
    (guest, sshd): (&Server, &Server),
    mut ours: impl FnMut() -> Result<()>,
    mut theirs: impl FnMut() -> Result<()>,
) -> Result<Vec<Table>> {
    let (mut speeds, mut costs) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    let mut side = |index: usize, server: &Server, run: &mut dyn FnMut() -> Result<()>| -> Result<()> {
        let before = server.usage().seconds;
        let seconds = timed(run)?;
        costs[index].push((server.usage().seconds - before) * (1024 * MIB) as f64 / BYTES as f64);
        speeds[index].push(BYTES as f64 / seconds / 1e6);
        Ok(())
    };
    for round in 0..ROUNDS {
        for index in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
            if index == 0 {
                side(0, guest, &mut ours)?
            } else {
                side(1, sshd, &mut theirs)?
            };
        }
    }
    Ok(vec![
        Table::new(what, "MB/s", &speeds, Some(Bar::AtLeast(1.2))),
        Table::new(&format!("{what}, server"), "CPU s/GiB", &costs, Some(Bar::AtMost(0.6))),
    ])
}

fn output(place: &Place, guest: &Server, sshd: &Server) -> Result<Vec<Table>> {
    let (of_guest, of_sshd) = (Client::connect(place, guest)?, Client::connect(place, sshd)?);
    let mut commands = Commands::open(&of_guest)?;
    let size = BYTES.to_string();
    let mut tables = moves(
        "stdout, command channel",
        (guest, sshd),
        || commands.output(&["head", "-c", &size, "/dev/zero"], BYTES),
        || of_sshd.output(BYTES),
    )?;
    tables.extend(moves("stdout, exec", (guest, sshd), || of_guest.output(BYTES), || of_sshd.output(BYTES))?);
    Ok(tables)
}

fn download(place: &Place, guest: &Server, sshd: &Server) -> Result<Vec<Table>> {
    let (of_guest, of_sshd) = (Client::connect(place, guest)?, Client::connect(place, sshd)?);
    let (ours, theirs) = (of_guest.sftp()?, of_sshd.sftp()?);
    let file = place.file("down");
    std::fs::write(&file, vec![7; BYTES])?;
    let tables = moves(
        "download by SFTP",
        (guest, sshd),
        || client::download(&ours, &file, BYTES),
        || client::download(&theirs, &file, BYTES),
    )?;
    std::fs::remove_file(&file)?;
    Ok(tables)
}

fn upload(place: &Place, guest: &Server, sshd: &Server) -> Result<Vec<Table>> {
    let (of_guest, of_sshd) = (Client::connect(place, guest)?, Client::connect(place, sshd)?);
    let (ours, theirs) = (of_guest.sftp()?, of_sshd.sftp()?);
    let file = place.file("up");
    let side = |sftp: &ssh2::Sftp| {
        // What is freed costs the same for both, before the time is taken.
        let _ = std::fs::remove_file(&file);
        client::upload(sftp, &file, BYTES)
    };
    let tables = moves("upload by SFTP", (guest, sshd), || side(&ours), || side(&theirs))?;
    std::fs::remove_file(&file)?;
    Ok(tables)
}

fn memory(place: &Place, _: &Server, _: &Server) -> Result<Vec<Table>> {
    // Fresh ones: what the other works left is not what is asked.
    let (guest, sshd) = (Server::guest(place)?, Server::sshd(place)?);
    let idle = [vec![guest.usage().mib], vec![sshd.usage().mib]];
    let connect = |server| (0..IDLE).map(|_| Client::connect(place, server)).collect::<Result<Vec<_>>>();
    let (of_guest, of_sshd) = (connect(&guest)?, connect(&sshd)?);
    let mut commands = of_guest.iter().map(Commands::open).collect::<Result<Vec<_>>>()?;
    commands.iter_mut().try_for_each(|commands| commands.run(&["true"]))?;
    of_sshd.iter().try_for_each(|client| client.exec("true"))?;
    // The guest gives buffers back after a second without work.
    let until = Instant::now() + Duration::from_secs(3);
    let mut least = f64::MAX;
    while Instant::now() < until {
        least = least.min(guest.usage().mib);
        std::thread::sleep(Duration::from_millis(100));
    }
    let with_sessions = [vec![least], vec![sshd.usage().mib]];
    Ok(vec![
        Table::new("own memory, idle", "MiB", &idle, Some(Bar::Value(4.0))),
        Table::new("own memory, 100 idle sessions", "MiB", &with_sessions, Some(Bar::Value(12.0))),
    ])
}

/// Many commands, and the guest's memory meanwhile.
fn soak(count: Option<&str>) -> Result<()> {
    let count = count.map_or(Ok(SOAK), str::parse)?;
    let place = Place::new()?;
    let guest = Server::guest(&place)?;
    let client = Client::connect(&place, &guest)?;
    let mut commands = Commands::open(&client)?;
    // What is allocated once is there after the first tenth.
    let warm_up = (count / 10).max(1);
    let mut first = 0.0;
    let began = Instant::now();
    for index in 0..count {
        commands.run(&["true"])?;
        if index + 1 == warm_up {
            first = guest.usage().kib_of_main;
        }
    }
    let last = guest.usage().kib_of_main;
    let rate = count as f64 / began.elapsed().as_secs_f64();
    println!(
        "{count} commands, {rate:.0} a second; the guest's memory after {warm_up}: {first:.0} KiB, at the end: {last:.0} KiB"
    );
    if last - first > GROWTH { Err(format!("it grew by {:.0} KiB", last - first).into()) } else { Ok(()) }
}

/// Repeats a work against the guest until it is stopped.
fn profile(work: &str) -> Result<()> {
    let place = Place::new()?;
    let guest = Server::guest(&place)?;
    println!("the guest is process {}, the client {}", guest.pid(), std::process::id());
    let client = Client::connect(&place, &guest)?;
    let mut commands = Commands::open(&client)?;
    let many = if work == "threads" { THREADS } else { 0 };
    let many = (0..many).map(|_| Client::connect(&place, &guest)).collect::<Result<Vec<_>>>()?;
    let mut of_many = many.iter().map(Commands::open).collect::<Result<Vec<_>>>()?;
    let (sftp, file, size) = (client.sftp()?, place.file("profile"), BYTES.to_string());
    std::fs::write(&file, vec![7; BYTES])?;
    let until = Instant::now() + Duration::from_secs(20);
    let mut count = 0;
    while Instant::now() < until {
        match work {
            "warm" => commands.run(&["true"])?,
            "threads" => drop(at_once(of_many.iter_mut(), |commands| commands.run(&["true"]))?),
            "output" => commands.output(&["head", "-c", &size, "/dev/zero"], BYTES)?,
            "download" => client::download(&sftp, &file, BYTES)?,
            "upload" => client::upload(&sftp, &file, BYTES)?,
            "login" => drop(Client::connect(&place, &guest)?),
            other => return Err(format!("there is no work {other}").into()),
        }
        count += 1;
    }
    println!("{count} times, {:.2} CPU s", guest.usage().seconds);
    Ok(())
}
