//! The steps of a build in the order in which they began, with what they wrote last.

use std::collections::{HashMap, VecDeque};

use builder::client::{Status, Update, Vertex, Warning};

use super::Told;

/// Lines that are kept of a step for the case that it fails.
const KEPT: usize = 20;
/// The longest part of a line that is kept.
const LONGEST: usize = 4096;

/// A step as it stands.
#[derive(Debug, Default)]
pub(super) struct Step {
    pub(super) vertex: Vertex,
    pub(super) statuses: Vec<Status>,
    pub(super) tail: VecDeque<String>,
    open: Vec<u8>,
}

impl Step {
    fn log(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let ended = piece.last() == Some(&b'\n');
            let piece = if ended {
                &piece[..piece.len() - 1]
            } else {
                piece
            };
            let room = LONGEST.saturating_sub(self.open.len());
            self.open.extend(&piece[..piece.len().min(room)]);
            if ended {
                let line = String::from_utf8_lossy(&self.open).into_owned();
                self.open.clear();
                // what a program overwrites on its terminal is seen once
                let line = line.trim_end_matches('\r');
                let line = line.rsplit('\r').next().unwrap_or_default();
                self.keep(line.to_owned());
            }
        }
    }

    fn keep(&mut self, line: String) {
        if self.tail.len() == KEPT {
            self.tail.pop_front();
        }
        self.tail.push_back(line);
    }
}

/// All steps.
#[derive(Debug, Default)]
pub(super) struct Board {
    pub(super) steps: Vec<Step>,
    numbers: HashMap<String, usize>,
    warnings: Vec<Warning>,
}

impl Board {
    /// The place of a step, counted from 0 in the order of their first news.
    pub(super) fn number(&self, digest: &str) -> Option<usize> {
        self.numbers.get(digest).copied()
    }

    /// Takes news in.
    pub(super) fn take(&mut self, update: &Update) {
        for vertex in &update.vertices {
            // a step that has not begun gets its place when it does
            if vertex.started.is_none()
                && !vertex.cached
                && !self.numbers.contains_key(&vertex.digest)
            {
                continue;
            }
            let number = self.place(&vertex.digest);
            self.steps[number].vertex = vertex.clone();
        }
        for status in &update.statuses {
            let Some(number) = self.number(&status.vertex) else {
                continue;
            };
            let statuses = &mut self.steps[number].statuses;
            match statuses.iter_mut().find(|known| known.id == status.id) {
                Some(known) => known.clone_from(status),
                None => statuses.push(status.clone()),
            }
        }
        for log in &update.logs {
            if let Some(number) = self.number(&log.vertex) {
                self.steps[number].log(&log.bytes);
            }
        }
        self.warnings.extend(update.warnings.iter().cloned());
    }

    fn place(&mut self, digest: &str) -> usize {
        let next = self.steps.len();
        let number = *self.numbers.entry(digest.to_owned()).or_insert(next);
        if number == next {
            self.steps.push(Step::default());
        }
        number
    }

    /// What is told when the build has ended.
    pub(super) fn end(mut self) -> Told {
        let is_failed = |step: &&mut Step| {
            let error = &step.vertex.error;
            !error.is_empty() && !error.ends_with("context canceled")
        };
        let failed = self.steps.iter_mut().find(is_failed).map(|step| {
            if !step.open.is_empty() {
                let rest = String::from_utf8_lossy(&step.open).into_owned();
                step.keep(rest);
            }
            (
                step.vertex.name.clone(),
                step.tail.iter().cloned().collect(),
            )
        });
        Told {
            warnings: self.warnings,
            failed,
        }
    }
}
