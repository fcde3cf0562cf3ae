//! A build as a tree of steps that is drawn anew while it runs.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use builder::client::{Status, Update};
use jiff::Timestamp;
use tokio::sync::mpsc;

use super::names::{Board, Step};
use crate::{terminal, units};

/// How often the picture changes.
const FRAME: Duration = Duration::from_millis(100);
/// Lines of output that a running step shows.
const OUTPUT: usize = 6;

/// Shows news until there are no more; what stays at the end is a line a step.
pub(super) async fn show(board: &mut Board, news: &mut mpsc::Receiver<Update>) {
    let begun = Instant::now();
    let mut drawn = Drawn::default();
    let mut ticker = tokio::time::interval(FRAME);
    loop {
        tokio::select! {
            update = news.recv() => match update {
                Some(update) => board.take(&update),
                None => break,
            },
            _ = ticker.tick() => drawn.draw(&picture(board, begun, false)),
        }
    }
    drawn.draw(&picture(board, begun, true));
}

/// What stands on the terminal.
#[derive(Debug, Default)]
struct Drawn {
    lines: usize,
}

impl Drawn {
    fn draw(&mut self, lines: &[String]) {
        let mut text = String::new();
        if self.lines > 0 {
            // up, and clear to the end of the screen (ECMA-48: CUU, ED)
            let _ = write!(text, "\x1b[{}A\x1b[J", self.lines);
        }
        for line in lines {
            text.push_str(line);
            text.push('\n');
        }
        self.lines = lines.len();
        super::write(&text);
    }
}

fn picture(board: &Board, begun: Instant, last: bool) -> Vec<String> {
    let (height, width) =
        terminal::size().map_or((24, 80), |(h, w)| (usize::from(h), usize::from(w)));
    let over = board.steps.iter().filter(|step| is_over(step)).count();
    let state = if last && over == board.steps.len() {
        if board.steps.iter().any(|step| !step.vertex.error.is_empty()) {
            " FAILED"
        } else {
            " FINISHED"
        }
    } else {
        ""
    };
    let head = format!(
        "[+] Building {:.1}s ({over}/{}){state}",
        begun.elapsed().as_secs_f64(),
        board.steps.len()
    );
    let mut lines = Vec::new();
    for step in &board.steps {
        lines.push(of_step(step, width));
        if !is_over(step) {
            lines.extend(details(step, width));
        }
    }
    // what does not fit stands at the top, where it has been seen
    let room = height.saturating_sub(2);
    if !last && lines.len() > room {
        lines.drain(..lines.len() - room);
    }
    lines.insert(0, head);
    lines
}

fn is_over(step: &Step) -> bool {
    step.vertex.completed.is_some()
}

fn of_step(step: &Step, width: usize) -> String {
    let vertex = &step.vertex;
    let mark = match () {
        () if vertex.error.ends_with("context canceled") => "CANCELED ",
        () if !vertex.error.is_empty() => "ERROR ",
        () if vertex.cached => "CACHED ",
        () => "",
    };
    let took = seconds(vertex.started, vertex.completed);
    let name = vertex.name.replace('\n', " ");
    let left = format!(" => {mark}{name}");
    let colour = match () {
        () if !vertex.error.is_empty() => "\x1b[31m",
        () if is_over(step) => "\x1b[34m",
        () => "",
    };
    paint(&aligned(&left, &format!("{took:.1}s"), width), colour)
}

fn details(step: &Step, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = step
        .statuses
        .iter()
        .map(|status| of_status(status, width))
        .collect();
    let from = step.tail.len().saturating_sub(OUTPUT);
    for line in step.tail.iter().skip(from) {
        let clean: String = line.chars().filter(|c| !c.is_control()).collect();
        lines.push(paint(&cut(&format!(" => => # {clean}"), width), "\x1b[2m"));
    }
    lines
}

fn of_status(status: &Status, width: usize) -> String {
    let name = if status.name.is_empty() {
        &status.id
    } else {
        &status.name
    };
    let amount = match (status.current, status.total) {
        (_, total @ 1..) => format!(" {} / {}", units::size(status.current), units::size(total)),
        (current @ 1.., _) => format!(" {}", units::size(current)),
        _ => String::new(),
    };
    let took = seconds(status.started, status.completed);
    aligned(
        &format!(" => => {name}{amount}"),
        &format!("{took:.1}s"),
        width,
    )
}

fn seconds(from: Option<Timestamp>, to: Option<Timestamp>) -> f64 {
    let Some(from) = from else { return 0.0 };
    let to = to.unwrap_or_else(Timestamp::now);
    to.duration_since(from).as_secs_f64().max(0.0)
}

/// The left text, cut to leave room, and the right one at the edge.
fn aligned(left: &str, right: &str, width: usize) -> String {
    let room = width.saturating_sub(right.len() + 2);
    let left = cut(left, room);
    let gap = room.saturating_sub(left.chars().count()) + 1;
    format!("{left}{}{right}", " ".repeat(gap))
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width).collect()
}

fn paint(text: &str, colour: &str) -> String {
    if colour.is_empty() || std::env::var_os("NO_COLOR").is_some() {
        return text.to_owned();
    }
    format!("{colour}{text}\x1b[0m")
}
