//! Figures, goals, and the files that keep them.

use super::Bench;
use super::subject::output;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::fmt::{self, Write as _};
use std::fs;
use std::path::Path;
use std::process::Command;

/// One subject's samples.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    pub(crate) subject: String,
    pub(crate) samples: Vec<f64>,
    /// Why there are no more samples.
    pub(crate) failure: Option<String>,
}

impl Figure {
    pub(crate) fn new(subject: &str) -> Self {
        Self {
            subject: subject.to_owned(),
            samples: Vec::new(),
            failure: None,
        }
    }

    /// The sample that a share of all does not exceed.
    fn quantile(&self, percent: usize) -> Option<f64> {
        let mut sorted = self.samples.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        sorted.get((last * percent).div_ceil(100)).copied()
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Unit {
    Milliseconds,
    Megabytes,
    GigabitsPerSecond,
    PerSecond,
    Percent,
    Count,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Self::Milliseconds => "ms",
            Self::Megabytes => "MB",
            Self::GigabitsPerSecond => "Gbit/s",
            Self::PerSecond => "/s",
            Self::Percent => "%",
            Self::Count => "",
        }
    }
}

/// What was to be reached, and whether it was; unknown where a peer is missing.
#[derive(Clone, Debug)]
pub(crate) struct Goal {
    text: String,
    met: Option<bool>,
}

impl Goal {
    pub(crate) fn new(text: &str, met: Option<bool>) -> Self {
        Self {
            text: text.to_owned(),
            met,
        }
    }

    fn mark(&self) -> &'static str {
        match self.met {
            Some(true) => "reached",
            Some(false) => "missed",
            None => "not measured",
        }
    }
}

/// What a figure may be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Bound {
    pub(crate) fn holds(self, figure: f64) -> bool {
        match self {
            Self::AtLeast(limit) => figure >= limit,
            Self::AtMost(limit) => figure <= limit,
        }
    }

    /// Whether one digit after the point would hide what it is about.
    fn is_fine(self) -> bool {
        let (Self::AtLeast(limit) | Self::AtMost(limit)) = self;
        limit < 2.0
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(limit) => write!(text, "at least {limit}"),
            Self::AtMost(limit) => write!(text, "at most {limit}"),
        }
    }
}

/// One line of the report.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    title: String,
    unit: Unit,
    pub(crate) figures: Vec<Figure>,
    pub(crate) goals: Vec<Goal>,
    /// Why there is nothing of this row.
    failure: Option<String>,
}

impl Row {
    pub(crate) fn new(title: &str, unit: Unit, figures: Vec<Figure>) -> Self {
        Self {
            title: title.to_owned(),
            unit,
            figures,
            goals: Vec::new(),
            failure: None,
        }
    }

    /// A row that could not be measured.
    pub(crate) fn failed(title: &str, error: &anyhow::Error) -> Self {
        Self {
            failure: Some(format!("{error:#}")),
            ..Self::new(title, Unit::Count, Vec::new())
        }
    }

    /// What could not be measured, and why.
    pub(crate) fn failures(&self) -> Vec<String> {
        let of_figures = self.figures.iter().filter_map(|figure| {
            let failure = figure.failure.as_ref()?;
            let failure = on_a_line(failure);
            Some(format!("{}, {}: {failure}", self.title, figure.subject))
        });
        let own = self.failure.iter();
        own.map(|failure| format!("{}: {}", self.title, on_a_line(failure)))
            .chain(of_figures)
            .collect()
    }

    /// The median of a subject's samples.
    pub(crate) fn median(&self, subject: &str) -> Option<f64> {
        self.figures
            .iter()
            .find(|figure| figure.subject == subject)?
            .quantile(50)
    }

    /// Asks that gorae be this many times as fast as another.
    pub(crate) fn goal_times_faster(&mut self, other: &str, times: f64) {
        self.goal_ratio(other, "gorae", Bound::AtLeast(times));
    }

    /// Asks that gorae take at most this many times what another takes.
    pub(crate) fn goal_times_of(&mut self, other: &str, times: f64) {
        self.goal_ratio("gorae", other, Bound::AtMost(times));
    }

    /// Asks for a bound of the ratio of two subjects' medians.
    pub(crate) fn goal_ratio(&mut self, over: &str, under: &str, bound: Bound) {
        let ratio = self
            .median(over)
            .zip(self.median(under))
            .map(|(over, under)| over / under);
        let digits = if bound.is_fine() { 2 } else { 1 };
        let found = ratio.map_or_else(String::new, |ratio| format!(" ({ratio:.digits$})"));
        self.goals.push(Goal::new(
            &format!("{over} / {under} {bound}{found}"),
            ratio.map(|ratio| bound.holds(ratio)),
        ));
    }

    /// Asks that gorae's median be at most a figure.
    pub(crate) fn goal_at_most(&mut self, limit: f64) {
        let met = self.median("gorae").map(|own| own <= limit);
        self.goals.push(Goal::new(
            &format!("at most {limit} {}", self.unit.name()),
            met,
        ));
    }

    fn json(&self) -> Value {
        let figures = self.figures.iter().map(|figure| json!({"subject": figure.subject, "median": figure.quantile(50), "samples": figure.samples, "failure": figure.failure}));
        let goals = self
            .goals
            .iter()
            .map(|goal| json!({"goal": goal.text, "met": goal.met}));
        json!({"row": self.title, "unit": self.unit.name(), "figures": figures.collect::<Vec<_>>(), "goals": goals.collect::<Vec<_>>(), "failure": self.failure})
    }

    fn markdown(&self) -> String {
        let mut text = String::new();
        if self.failure.is_some() {
            return format!("| {} | - | failed | | | | 0 | |\n", self.title);
        }
        for (number, figure) in self.figures.iter().enumerate() {
            let cell = |percent| {
                figure
                    .quantile(percent)
                    .map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"))
            };
            let title = if number == 0 { self.title.as_str() } else { "" };
            let goals: Vec<String> = self
                .goals
                .iter()
                .map(|goal| format!("{}: {}", goal.text, goal.mark()))
                .collect();
            let goals = if number == 0 {
                goals.join("; ")
            } else {
                String::new()
            };
            let (unit, count) = (self.unit.name(), figure.samples.len());
            let median = match &figure.failure {
                Some(_) => "failed".to_owned(),
                None => format!("{} {unit}", cell(50)).trim_end().to_owned(),
            };
            // a String takes all that is written to it
            let _ = writeln!(
                text,
                "| {title} | {} | {median} | {} | {} | {} | {count} | {goals} |",
                figure.subject,
                cell(0),
                cell(90),
                cell(99)
            );
        }
        text
    }
}

/// The beginning of a failure's text, in one line.
fn on_a_line(failure: &str) -> String {
    const LONGEST: usize = 300;
    let words: Vec<&str> = failure.split_whitespace().collect();
    // where the checkout is belongs to no report
    let line = words
        .join(" ")
        .replace(&*super::root().to_string_lossy(), ".");
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

/// A whole run.
#[derive(Debug)]
pub(crate) struct Report {
    name: String,
    date: String,
    machine: Value,
    versions: Value,
    rows: Vec<Row>,
}

impl Report {
    pub(crate) fn new(bench: &Bench, rows: Vec<Row>) -> Result<Self> {
        let date = output(Command::new("date").args(["-u", "+%Y-%m-%d"]))?
            .trim()
            .to_owned();
        let commit = output(
            Command::new("git")
                .args(["describe", "--always", "--dirty"])
                .current_dir(super::root()),
        );
        let commit = commit.map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned());
        let peer = |words: &[&str]| {
            bench
                .peers
                .as_ref()
                .and_then(|peers| peers.call(words).ok())
                .map(|text| text.trim().to_owned())
        };
        let versions = json!({
            "gorae": bench.gorae.call(&["--version"])?.trim(),
            "commit": commit,
            "docker": peer(&["docker", "version", "--format", "{{.Server.Version}}"]),
            "podman": peer(&["podman", "version", "--format", "{{.Version}}"]),
            "crun": peer(&["crun", "--version"]).and_then(|text| text.lines().next().map(str::to_owned)),
        });
        let name = bench.plan.name.clone().unwrap_or(commit);
        Ok(Self {
            name,
            date,
            machine: machine(),
            versions,
            rows,
        })
    }

    /// What could not be measured, and why.
    pub(crate) fn failures(&self) -> Vec<String> {
        self.rows.iter().flat_map(Row::failures).collect()
    }

    /// Writes the raw figures and the table, and shows the table.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        let raw = json!({
            "date": self.date,
            "name": self.name,
            "machine": self.machine,
            "versions": self.versions,
            "rows": self.rows.iter().map(Row::json).collect::<Vec<_>>(),
        });
        let table = self.markdown();
        let files = [
            ("json", serde_json::to_string_pretty(&raw)? + "\n"),
            ("md", table.clone()),
        ];
        for (kind, text) in files {
            let path = folder.join(format!("{}-{}.{kind}", self.date, self.name));
            fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
            println!("==> Wrote {}", path.display());
        }
        println!("\n{table}");
        Ok(())
    }

    fn markdown(&self) -> String {
        let word = |value: &Value| {
            value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned)
        };
        let list = |value: &Value| {
            let pairs = value
                .as_object()
                .into_iter()
                .flatten()
                .map(|(key, value)| format!("{key} {}", word(value)));
            pairs.collect::<Vec<_>>().join(", ")
        };
        let mut text = format!(
            "# {} {}\n\nMachine: {}.\nVersions: {}.\n\n",
            self.date,
            self.name,
            list(&self.machine),
            list(&self.versions)
        );
        text.push_str("| what | by | median | least | 90 % | 99 % | samples | to reach |\n|---|---|---|---|---|---|---|---|\n");
        text.extend(self.rows.iter().map(Row::markdown));
        let failures = self.failures();
        if !failures.is_empty() {
            text.push_str("\nNot measured:\n");
            text.extend(failures.iter().map(|failure| format!("- {failure}\n")));
        }
        text
    }
}

fn machine() -> Value {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let (cpu, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
    let value = |text: &str, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key));
        line.and_then(|line| line.split_once(':'))
            .map(|(_, value)| value.trim().to_owned())
    };
    json!({
        "processor": value(&cpu, "model name"),
        "cores": cpu.lines().filter(|line| line.starts_with("processor")).count(),
        "memory": value(&memory, "MemTotal"),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(subject: &str, samples: &[f64]) -> Figure {
        Figure {
            subject: subject.to_owned(),
            samples: samples.to_vec(),
            failure: None,
        }
    }

    #[test]
    fn quantiles() {
        let figure = figure("x", &[5.0, 1.0, 4.0, 2.0, 3.0]);
        assert_eq!(
            [0, 50, 90].map(|percent| figure.quantile(percent)),
            [Some(1.0), Some(3.0), Some(5.0)]
        );
        assert_eq!(Figure::new("y").quantile(50), None);
    }

    #[test]
    fn goals() {
        let mut row = Row::new(
            "run",
            Unit::Milliseconds,
            vec![figure("gorae", &[10.0]), figure("docker", &[210.0])],
        );
        row.goal_times_faster("docker", 20.0);
        row.goal_times_of("unshare", 4.0);
        row.goal_at_most(9.0);
        assert_eq!(
            row.goals.iter().map(Goal::mark).collect::<Vec<_>>(),
            ["reached", "not measured", "missed"]
        );
        assert!(row.markdown().starts_with("| run | gorae | 10.00 ms | 10.00 | 10.00 | 10.00 | 1 | docker / gorae at least 20 (21.0): reached;"));
    }

    #[test]
    fn failures() {
        let error = anyhow::anyhow!("no\nluck").context("measure");
        let row = Row::failed("dns", &error);
        assert_eq!(row.failures(), ["dns: measure: no luck"]);
        let mut figure = figure("podman", &[1.0]);
        figure.failure = Some("gone".to_owned());
        let row = Row::new("http", Unit::Count, vec![figure]);
        assert_eq!(row.failures(), ["http, podman: gone"]);
        assert!(row.markdown().starts_with("| http | podman | failed |"));
    }
}
