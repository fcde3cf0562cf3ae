//! Writing to standard output and error.

use std::io::{self, Write};

/// Writes a line to standard output.
///
/// A reader that went away (`gorae ps | head -1`) ends the program quietly through the error it returns.
pub(crate) fn line(text: impl AsRef<str>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_ref().as_bytes())?;
    out.write_all(b"\n")
}

/// Writes bytes to standard output as they are.
pub(crate) fn raw(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}

/// Writes bytes to standard error as they are.
pub(crate) fn raw_error(bytes: &[u8]) -> io::Result<()> {
    io::stderr().lock().write_all(bytes)
}

/// Writes a line to standard error; there is nowhere left to report a failure of that.
pub(crate) fn complain(text: impl AsRef<str>) {
    let mut line = text.as_ref().to_owned();
    line.push('\n');
    drop(io::stderr().lock().write_all(line.as_bytes()));
}

/// Asks a question whose only consent is `y`.
pub(crate) fn confirm(question: &str) -> io::Result<bool> {
    raw(question.as_bytes())?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
