//! Subjects that take turns at something else than a command's time.

use super::report::Figure;
use anyhow::Result;
use std::fmt;

/// One subject, and what was found of it so far.
pub(crate) struct Turn<'a, T> {
    name: String,
    measure: Box<dyn FnMut() -> Result<T> + 'a>,
    found: Vec<T>,
    /// Why it takes no more turns.
    failure: Option<String>,
}

impl<T: fmt::Debug> fmt::Debug for Turn<'_, T> {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        text.debug_struct("Turn")
            .field("name", &self.name)
            .field("found", &self.found)
            .field("failure", &self.failure)
            .finish_non_exhaustive()
    }
}

impl<'a, T> Turn<'a, T> {
    pub(crate) fn new(name: &str, measure: impl FnMut() -> Result<T> + 'a) -> Self {
        Self {
            name: name.to_owned(),
            measure: Box::new(measure),
            found: Vec::new(),
            failure: None,
        }
    }

    fn take(&mut self) {
        if self.failure.is_some() {
            return;
        }
        match (self.measure)() {
            Ok(found) => self.found.push(found),
            Err(error) => {
                println!("    {} failed: {error:#}", self.name);
                self.failure = Some(format!("{error:#}"));
            }
        }
    }

    /// The samples that are in what was found.
    pub(crate) fn figure(&self, samples: impl Fn(&T) -> Vec<f64>) -> Figure {
        Figure {
            subject: self.name.clone(),
            samples: self.found.iter().flat_map(samples).collect(),
            failure: self.failure.clone(),
        }
    }
}

/// Lets subjects take turns; one that fails takes no more.
pub(crate) fn take<T>(rounds: u32, turns: &mut [Turn<'_, T>]) {
    for _ in 0..rounds {
        for turn in &mut *turns {
            turn.take();
        }
    }
}

/// The same samples of every subject.
pub(crate) fn figures<T>(
    turns: &[Turn<'_, T>],
    samples: impl Fn(&T) -> Vec<f64> + Copy,
) -> Vec<Figure> {
    turns.iter().map(|turn| turn.figure(samples)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_fails_rests() {
        let mut left = 2;
        let mut turns = [
            Turn::new("gorae", || Ok(1.0)),
            Turn::new("docker", || {
                left -= 1;
                anyhow::ensure!(left > 0, "tired");
                Ok(2.0)
            }),
        ];
        take(3, &mut turns);
        let figures = figures(&turns, |found| vec![*found]);
        assert_eq!(figures[0].samples, [1.0; 3]);
        assert_eq!(figures[1].samples, [2.0]);
        assert_eq!(figures[1].failure.as_deref(), Some("tired"));
    }
}
