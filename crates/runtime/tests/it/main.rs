//! Containers on the real kernel, each test in a process of its own.
//!
//! The runtime clones, which wants a process of one thread. Without arguments this program runs itself
//! once for each test, a few at a time, and tells the results; a word as argument chooses tests.
#![expect(
    clippy::print_stdout,
    reason = "a test program without the standard harness tells its results itself"
)]

#[cfg(test)]
mod bed;
#[cfg(test)]
mod cgroups;
#[cfg(test)]
mod execs;
#[cfg(test)]
mod failures;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod inside;
#[cfg(test)]
mod mounts;
#[cfg(test)]
mod processes;
#[cfg(test)]
mod users;

use std::process::{Child, Command, ExitCode, Stdio};

/// A test: its name and what it does.
type Test = (&'static str, fn());

/// The variable that tells a copy of this program which test it is.
const CHOSEN: &str = "GORAE_RUNTIME_TEST";

/// Tests that run at the same time.
const AT_ONCE: usize = 2;

fn tests() -> Vec<Test> {
    let groups: [&[Test]; 8] = [
        inside::TESTS,
        processes::TESTS,
        mounts::TESTS,
        hostile::TESTS,
        failures::TESTS,
        execs::TESTS,
        cgroups::TESTS,
        users::TESTS,
    ];
    groups.concat()
}

fn main() -> ExitCode {
    let tests = tests();
    if let Ok(name) = std::env::var(CHOSEN) {
        for (_, test) in tests.iter().filter(|(own, _)| *own == name) {
            test();
        }
        return ExitCode::SUCCESS;
    }
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    let chosen = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(&**word));
    if std::env::args().any(|argument| argument == "--list") {
        for (name, _) in tests {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    let names: Vec<_> = tests
        .iter()
        .map(|test| test.0)
        .filter(|name| chosen(name))
        .collect();
    let failed = run_all(&names);
    println!(
        "\n{} passed, {} failed",
        names.len() - failed.len(),
        failed.len()
    );
    for name in &failed {
        println!("    {name}");
    }
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs tests, a few at a time; tells those that failed.
fn run_all(names: &[&'static str]) -> Vec<&'static str> {
    let mut failed = Vec::new();
    for group in names.chunks(AT_ONCE) {
        let running: Vec<_> = group.iter().map(|name| (*name, start(name))).collect();
        for (name, child) in running {
            let output = child.and_then(Child::wait_with_output);
            let passed = output.as_ref().is_ok_and(|output| output.status.success());
            println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
            if passed {
                continue;
            }
            failed.push(name);
            match output {
                Ok(output) => println!("{}", String::from_utf8_lossy(&output.stderr)),
                Err(error) => println!("{error}"),
            }
        }
    }
    failed
}

fn start(name: &str) -> std::io::Result<Child> {
    // a test that hangs is to be seen as one that failed
    Command::new("timeout")
        .args(["--signal=KILL", "60"])
        .arg(std::env::current_exe()?)
        .env(CHOSEN, name)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
}
