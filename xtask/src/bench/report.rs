//! Figures, goals, and the files that keep them.

use super::Bench;
use super::subject::output;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

/// One subject's samples.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    pub(crate) subject: String,
    pub(crate) samples: Vec<f64>,
}

impl Figure {
    pub(crate) fn new(subject: &str) -> Self {
        Self {
            subject: subject.to_owned(),
            samples: Vec::new(),
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
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Self::Milliseconds => "ms",
            Self::Megabytes => "MB",
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

/// One line of the report.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    title: String,
    unit: Unit,
    pub(crate) figures: Vec<Figure>,
    pub(crate) goals: Vec<Goal>,
}

impl Row {
    pub(crate) fn new(title: &str, unit: Unit, figures: Vec<Figure>) -> Self {
        Self {
            title: title.to_owned(),
            unit,
            figures,
            goals: Vec::new(),
        }
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
        let ratio = self
            .median(other)
            .zip(self.median("gorae"))
            .map(|(other, own)| other / own);
        let found = ratio.map_or_else(String::new, |ratio| format!(" ({ratio:.1})"));
        self.goals.push(Goal::new(
            &format!("{other} / gorae at least {times}{found}"),
            ratio.map(|ratio| ratio >= times),
        ));
    }

    /// Asks that gorae take at most this many times what another takes.
    pub(crate) fn goal_times_of(&mut self, other: &str, times: f64) {
        let ratio = self
            .median("gorae")
            .zip(self.median(other))
            .map(|(own, other)| own / other);
        let found = ratio.map_or_else(String::new, |ratio| format!(" ({ratio:.1})"));
        self.goals.push(Goal::new(
            &format!("gorae / {other} at most {times}{found}"),
            ratio.map(|ratio| ratio <= times),
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
        let figures = self.figures.iter().map(|figure| json!({"subject": figure.subject, "median": figure.quantile(50), "samples": figure.samples}));
        let goals = self
            .goals
            .iter()
            .map(|goal| json!({"goal": goal.text, "met": goal.met}));
        json!({"row": self.title, "unit": self.unit.name(), "figures": figures.collect::<Vec<_>>(), "goals": goals.collect::<Vec<_>>()})
    }

    fn markdown(&self) -> String {
        let mut text = String::new();
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
            // a String takes all that is written to it
            let _ = writeln!(
                text,
                "| {title} | {} | {} {unit} | {} | {} | {count} | {goals} |",
                figure.subject,
                cell(50),
                cell(0),
                cell(90)
            );
        }
        text
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
        text.push_str("| what | by | median | least | 90 % | samples | to reach |\n|---|---|---|---|---|---|---|\n");
        text.extend(self.rows.iter().map(Row::markdown));
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
        assert!(row.markdown().starts_with("| run | gorae | 10.00 ms | 10.00 | 10.00 | 1 | docker / gorae at least 20 (21.0): reached;"));
    }
}
