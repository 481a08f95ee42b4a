//! The program `sandbox-guest`.

fn main() -> std::process::ExitCode {
    let command = std::env::args_os().nth(1);
    match command.as_ref().and_then(|command| command.to_str()) {
        // The zygote and its keepers; started by the guest itself.
        Some("keeper") => match sandbox_guest::process::zygote_main() {
            0 => std::process::ExitCode::SUCCESS,
            _ => std::process::ExitCode::FAILURE,
        },
        _ => std::process::ExitCode::from(2),
    }
}
