//! Shows the settings that `Config::from_env` finds, and which variables of the environment are this library's.

fn main() {
    let config = sandbox::Config::from_env().unwrap_or_else(|error| {
        eprintln!("{error}");
        std::process::exit(1);
    });
    println!("{config:?}");
    let mut names: Vec<_> =
        std::env::vars().map(|(name, _)| name).filter(|name| name.starts_with("SANDBOX_")).collect();
    names.sort();
    println!("environment: {names:?}");
}
