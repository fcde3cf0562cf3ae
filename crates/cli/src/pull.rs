//! Pulling an image, with a bar a layer on a terminal and plain lines elsewhere.

use crate::auth;
use crate::failure::Failure;
use crate::globals::Globals;
use crate::registry::Wanted;
use crate::{output, terminal};
use api::client::{Client, Lines};
use api::image::{Progress, ProgressDetail};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::HashMap;
use std::time::Duration;

/// Where progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Output,
    Errors,
    Nowhere,
}

/// Pulls an image.
pub(crate) async fn pull(
    client: &Client,
    globals: &Globals,
    wanted: &Wanted,
    platform: Option<&str>,
    place: Place,
) -> anyhow::Result<()> {
    let mut request = client
        .post("/images/create")
        .query("fromImage", &wanted.name)
        .query("tag", &wanted.tag)
        .query_opt("platform", platform);
    if let Some(header) = auth::header(globals, &wanted.domain).await? {
        request = request.header_static("x-registry-auth", header);
    }
    show(request.send().await?.lines(), place).await
}

/// Shows a stream of progress to its end.
pub(crate) async fn show(mut lines: Lines, place: Place) -> anyhow::Result<()> {
    let (mut screen, mut note) = (Screen::new(place), None);
    while let Some(message) = lines.next::<Progress>().await? {
        if let Some(detail) = &message.error_detail {
            screen.finish()?;
            return Err(Failure::message(format!(
                "Error response from daemon: {}",
                detail.message
            ))
            .into());
        }
        if !message.error.is_empty() {
            screen.finish()?;
            return Err(
                Failure::message(format!("Error response from daemon: {}", message.error)).into(),
            );
        }
        note = note.or_else(|| note_of(&message));
        screen.show(&message)?;
    }
    screen.finish()?;
    if let Some(note) = note {
        output::complain(note);
    }
    Ok(())
}

/// What is to be said behind the bars of a push that has left platforms out.
fn note_of(message: &Progress) -> Option<String> {
    let aux = message.aux.as_ref()?;
    aux.get("manifestPushedInsteadOfIndex")?;
    let digest = |of: &str| aux[of]["digest"].as_str().unwrap_or_default().to_owned();
    Some(format!(
        "Not all multiplatform-content is present and only the available single-platform image was pushed\n{} -> {}",
        digest("originalIndex"),
        digest("selectedManifest")
    ))
}

enum Screen {
    Bars(Bars),
    Plain(Place),
}

impl Screen {
    fn new(place: Place) -> Self {
        let target = match place {
            Place::Output if terminal::stdout_is_terminal() => ProgressDrawTarget::stdout(),
            Place::Errors if terminal::stderr_is_terminal() => ProgressDrawTarget::stderr(),
            _ => return Self::Plain(place),
        };
        Self::Bars(Bars {
            place,
            all: MultiProgress::with_draw_target(target),
            by_id: HashMap::new(),
            below: Vec::new(),
        })
    }

    fn show(&mut self, message: &Progress) -> anyhow::Result<()> {
        match self {
            Self::Plain(Place::Nowhere) => Ok(()),
            Self::Plain(place) => plain(message, *place),
            Self::Bars(bars) => bars.show(message),
        }
    }

    /// Leaves the bars as they are and writes what belongs below them.
    fn finish(&mut self) -> anyhow::Result<()> {
        let Self::Bars(bars) = self else {
            return Ok(());
        };
        for bar in bars.by_id.values().filter(|bar| !bar.is_finished()) {
            bar.abandon();
        }
        for line in bars.below.drain(..) {
            let line = line + "\n";
            if bars.place == Place::Errors {
                output::raw_error(line.as_bytes())?;
            } else {
                output::raw(line.as_bytes())?;
            }
        }
        Ok(())
    }
}

/// A message as a line; those that only move a bar are left out.
fn plain(message: &Progress, place: Place) -> anyhow::Result<()> {
    let moving = message
        .progress_detail
        .as_ref()
        .is_some_and(|detail| detail.current > 0 || detail.total > 0);
    if moving {
        return Ok(());
    }
    let mut text = if message.stream.is_empty() {
        label(message)
    } else {
        message.stream.clone()
    };
    if message.stream.is_empty() {
        if message.status.is_empty() {
            return Ok(());
        }
        text.push('\n');
    }
    match place {
        Place::Errors => output::raw_error(text.as_bytes())?,
        Place::Output | Place::Nowhere => output::raw(text.as_bytes())?,
    }
    Ok(())
}

fn label(message: &Progress) -> String {
    if message.id.is_empty() {
        message.status.clone()
    } else {
        format!("{}: {}", message.id, message.status)
    }
}

/// One bar a layer.
struct Bars {
    place: Place,
    all: MultiProgress,
    by_id: HashMap<String, ProgressBar>,
    /// Lines that came behind the bars, and are shown there.
    below: Vec<String>,
}

impl Bars {
    fn show(&mut self, message: &Progress) -> anyhow::Result<()> {
        // lines about the image as a whole stand for good; so does what has no figures at all
        if message.id.is_empty() || message.progress_detail.is_none() {
            let line = match message.stream.trim_end() {
                "" => label(message),
                text => text.to_owned(),
            };
            if line.is_empty() {
                return Ok(());
            }
            if self.by_id.is_empty() {
                self.all.println(line)?;
            } else {
                self.below.push(line);
            }
            return Ok(());
        }
        let all = &self.all;
        let bar = self.by_id.entry(message.id.clone()).or_insert_with(|| {
            let bar = all.add(ProgressBar::new(0).with_prefix(message.id.clone()));
            bar.set_style(waiting());
            bar
        });
        let detail = message.progress_detail.clone().unwrap_or_default();
        let changed = bar.message() != message.status;
        let complete = is_complete(&message.status);
        if complete {
            bar.set_style(done());
        } else {
            figures(bar, &detail, changed);
        }
        if changed {
            bar.set_message(message.status.clone());
        }
        if complete {
            bar.finish();
        }
        Ok(())
    }
}

/// Whether a layer has come to its end, pulled, pushed or loaded.
fn is_complete(status: &str) -> bool {
    matches!(
        status,
        "Pull complete"
            | "Already exists"
            | "Pushed"
            | "Layer already exists"
            | "Skipped foreign layer"
            | "Loading layer"
    ) || status.starts_with("Mounted from ")
}

fn figures(bar: &ProgressBar, detail: &ProgressDetail, changed: bool) {
    let current = u64::try_from(detail.current).unwrap_or(0);
    let total = u64::try_from(detail.total).unwrap_or(0);
    if changed {
        bar.set_style(if total > 0 && detail.units.is_empty() {
            moving()
        } else {
            waiting()
        });
        bar.disable_steady_tick();
        if total == 0 {
            bar.enable_steady_tick(Duration::from_millis(120));
        }
    }
    if total > 0 {
        bar.set_length(total);
        bar.set_position(current.min(total));
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn moving() -> ProgressStyle {
    style("{prefix:.bold}: {msg:<12} [{bar:40.cyan/blue.dim}] {decimal_bytes:>9}/{decimal_total_bytes:<9} {decimal_bytes_per_sec:.dim} {eta:.dim}")
        .progress_chars("━╸─")
}

fn waiting() -> ProgressStyle {
    style("{prefix:.bold}: {msg} {spinner:.cyan}")
}

fn done() -> ProgressStyle {
    style("{prefix:.bold}: {msg:.green}")
}
