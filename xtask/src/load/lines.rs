//! A program that writes much: lines of one length, at an even rate.

use anyhow::{Context, Result, ensure};
use std::io::Write;
use std::time::{Duration, Instant};

/// How often it writes.
const BEAT: Duration = Duration::from_millis(10);

/// `load lines BYTES RATE SECONDS`: every line is numbered and has so many bytes with its end.
pub(super) fn write(length: &str, rate: &str, seconds: &str) -> Result<()> {
    let number = |word: &str| {
        let number = word.parse::<u64>();
        number.with_context(|| format!("invalid number {word:?}"))
    };
    let (length, rate, seconds) = (number(length)?, number(rate)?, number(seconds)?);
    ensure!(
        (16..=1 << 20).contains(&length),
        "a line has 16 bytes at least"
    );
    let mut out = std::io::stdout().lock();
    lines(&mut out, length, rate, seconds)
}

fn lines(out: &mut impl Write, length: u64, rate: u64, seconds: u64) -> Result<()> {
    let all = seconds * rate / length;
    let width = usize::try_from(length)? - 1;
    let begun = Instant::now();
    let (mut done, mut batch) = (0, Vec::new());
    while done < all {
        let due = begun.elapsed().as_secs_f64() * rate as f64 / length as f64;
        batch.clear();
        while done < all && (done as f64) < due {
            writeln!(batch, "{done:x<width$}")?;
            done += 1;
        }
        out.write_all(&batch).context("write lines")?;
        std::thread::sleep(BEAT);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_numbered_and_of_one_length() {
        let mut out = Vec::new();
        lines(&mut out, 20, 100_000, 1).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!((text.len(), text.lines().count()), (100_000, 5000));
        assert!(text.lines().nth(17).unwrap().starts_with("17x"));
    }
}
