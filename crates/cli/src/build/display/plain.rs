//! A build as lines, in the form of BuildKit's clients.

use std::collections::HashMap;
use std::fmt::Write as _;

use builder::client::{Status, Update};
use jiff::Timestamp;

use super::names::Board;
use crate::units;

/// What was printed so far.
#[derive(Debug, Default)]
pub(super) struct Plain {
    steps: HashMap<usize, Printed>,
    last: Option<usize>,
}

#[derive(Debug, Default)]
struct Printed {
    name: bool,
    ended: bool,
    /// The end of a line of output that has not come.
    open: Vec<u8>,
    /// Parts whose end was printed.
    done: Vec<String>,
}

/// The longest line that is waited for.
const LONGEST: usize = 16 << 10;

impl Plain {
    /// What news look like.
    pub(super) fn lines(&mut self, board: &Board, update: &Update) -> String {
        let mut text = String::new();
        for vertex in &update.vertices {
            if let Some(number) = board.number(&vertex.digest) {
                self.head(board, number, &mut text);
            }
        }
        for status in &update.statuses {
            if let Some(number) = board.number(&status.vertex) {
                self.status(board, number, status, &mut text);
            }
        }
        for log in &update.logs {
            if let Some(number) = board.number(&log.vertex) {
                self.head(board, number, &mut text);
                let since = seconds(board.steps[number].vertex.started, log.at);
                self.log(number, &log.bytes, since, &mut text);
            }
        }
        for vertex in &update.vertices {
            if let Some(number) = board.number(&vertex.digest) {
                self.foot(board, number, &mut text);
            }
        }
        text
    }

    /// The step's name, when it is first seen or another one was printed in between.
    fn head(&mut self, board: &Board, number: usize, text: &mut String) {
        let printed = self.steps.entry(number).or_default();
        if printed.ended || (printed.name && self.last == Some(number)) {
            return;
        }
        if self.last.is_some() {
            text.push('\n');
        }
        let name = &board.steps[number].vertex.name;
        // a name may be a whole script
        let name = name.replace('\n', " ");
        line(text, number, &name);
        printed.name = true;
        self.last = Some(number);
    }

    fn status(&mut self, board: &Board, number: usize, status: &Status, text: &mut String) {
        let printed = self.steps.entry(number).or_default();
        let ended = status.completed.is_some();
        if printed.ended || printed.done.contains(&status.id) || !ended {
            return;
        }
        printed.done.push(status.id.clone());
        self.head(board, number, text);
        let name = if status.name.is_empty() {
            &status.id
        } else {
            &status.name
        };
        let mut shown = name.clone();
        if status.total > 0 {
            let (current, total) = (units::size(status.current), units::size(status.total));
            let _ = write!(shown, " {current} / {total}");
        } else if status.current > 0 {
            let _ = write!(shown, ": {}", units::size(status.current));
        }
        if let (Some(_), Some(_)) = (status.started, status.completed) {
            let took = seconds(status.started, status.completed);
            if took > 0.0 {
                let _ = write!(shown, " {took:.1}s");
            }
        }
        line(text, number, &format!("{shown} done"));
    }

    fn log(&mut self, number: usize, bytes: &[u8], since: f64, text: &mut String) {
        let printed = self.steps.entry(number).or_default();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            printed.open.extend(piece);
            let ended = printed.open.last() == Some(&b'\n');
            if ended || printed.open.len() > LONGEST {
                let open = std::mem::take(&mut printed.open);
                let whole = String::from_utf8_lossy(&open);
                let whole = whole.trim_end_matches(['\n', '\r']);
                line(text, number, &format!("{since:.3} {whole}"));
            }
        }
    }

    fn foot(&mut self, board: &Board, number: usize, text: &mut String) {
        let vertex = &board.steps[number].vertex;
        let over = vertex.completed.is_some() || !vertex.error.is_empty();
        if !over || self.steps.get(&number).is_some_and(|p| p.ended) {
            return;
        }
        self.head(board, number, text);
        let printed = self.steps.entry(number).or_default();
        if !printed.open.is_empty() {
            let open = std::mem::take(&mut printed.open);
            let rest = String::from_utf8_lossy(&open).into_owned();
            let since = seconds(vertex.started, vertex.completed);
            line(text, number, &format!("{since:.3} {rest}"));
        }
        printed.ended = true;
        let took = seconds(vertex.started, vertex.completed);
        let end = match vertex.error.as_str() {
            "" if vertex.cached => "CACHED".to_owned(),
            "" => format!("DONE {took:.1}s"),
            error if error.ends_with("context canceled") => "CANCELED".to_owned(),
            error => format!("ERROR: {error}"),
        };
        line(text, number, &end);
    }

    /// A line that closes the text.
    pub(super) fn end(&self) -> String {
        String::new()
    }
}

fn line(text: &mut String, number: usize, words: &str) {
    let _ = writeln!(text, "#{} {words}", number + 1);
}

fn seconds(from: Option<Timestamp>, to: Option<Timestamp>) -> f64 {
    match (from, to) {
        (Some(from), Some(to)) => to.duration_since(from).as_secs_f64().max(0.0),
        _ => 0.0,
    }
}
