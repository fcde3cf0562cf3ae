//! The suite `engine`: what is measured of containers, a row each.

use super::peers::{PODMAN_BUSYBOX, remove};
use super::report::{Figure, Goal, Row, Unit};
use super::subject::{Place, Subject, word};
use super::{Bench, image, memory};
use anyhow::{Context, Result, bail};

/// How many containers run at once in the rows about many.
const MANY: u32 = 50;
const FOREVER: [&str; 2] = ["sleep", "86400"];

type Measure = fn(&Bench) -> Result<Vec<Row>>;

/// The rows by name, in the order of the report.
pub(crate) const ALL: [(&str, Measure); 5] = [
    ("run", run),
    ("none", run_without_network),
    ("client", client),
    ("exec", exec),
    ("fifty", fifty),
];

/// The names of [`ALL`].
pub(crate) const NAMES: [&str; 5] = ["run", "none", "client", "exec", "fifty"];

/// Lets subjects take turns; each runs once unmeasured before.
fn turns(bench: &Bench, subjects: &[Subject]) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for subject in subjects {
        subject.time(1)?;
        figures.push(Figure::new(subject.name));
    }
    for _ in 0..bench.plan.rounds {
        for (subject, figure) in subjects.iter().zip(&mut figures) {
            figure.samples.extend(subject.time(bench.plan.samples)?);
        }
    }
    Ok(figures)
}

/// The floor of what the kernel allows: namespaces, a root and a program, without an engine.
fn unshare(bench: &Bench) -> Result<Subject> {
    let rootfs = image::rootfs(&bench.folder, &bench.folder.join("busybox.tar"))?;
    let root = format!("--root={}", rootfs.display());
    let command = ["unshare", "-mpfniu", &root, "/bin/true"]
        .map(str::to_owned)
        .to_vec();
    Ok(Subject {
        name: "unshare",
        command,
        place: Place::Here(Vec::new()),
    })
}

/// The peers' commands for a run of the small image with these flags.
fn runs(bench: &Bench, flags: &[&str]) -> Vec<Subject> {
    let run = |engine: &'static str, image: &'static str| {
        let words: Vec<&str> = [engine, "run", "--rm"]
            .iter()
            .chain(flags)
            .chain(&[image, "true"])
            .copied()
            .collect();
        (engine, words)
    };
    let (_, own) = run("gorae", image::BUSYBOX);
    let mut subjects = vec![bench.gorae.subject(&own[1..])];
    if let Some(peers) = &bench.peers {
        for (name, words) in [run("docker", image::BUSYBOX), run("podman", PODMAN_BUSYBOX)] {
            subjects.push(peers.subject(name, &words));
        }
    }
    subjects
}

fn run(bench: &Bench) -> Result<Vec<Row>> {
    let mut subjects = runs(bench, &[]);
    subjects.push(unshare(bench)?);
    let mut row = Row::new(
        "run --rm busybox true, bridge network",
        Unit::Milliseconds,
        turns(bench, &subjects)?,
    );
    row.goal_times_faster("docker", 20.0);
    row.goal_times_of("unshare", 4.0);
    Ok(vec![row])
}

fn run_without_network(bench: &Bench) -> Result<Vec<Row>> {
    let mut subjects = runs(bench, &["--network", "none"]);
    subjects.push(unshare(bench)?);
    let mut row = Row::new(
        "the same with --network none",
        Unit::Milliseconds,
        turns(bench, &subjects)?,
    );
    row.goal_times_of("unshare", 3.0);
    Ok(vec![row])
}

fn client(bench: &Bench) -> Result<Vec<Row>> {
    let program = bench
        .docker_cli
        .as_deref()
        .context("find target/docker-cli/docker: run scripts/fetch-docker-cli")?;
    let by_docker = |name, words: &[&str]| Subject {
        name,
        command: std::iter::once(word(program))
            .chain(words.iter().map(|word| (*word).to_owned()))
            .collect(),
        place: Place::Here(vec![("DOCKER_HOST", bench.gorae.host())]),
    };
    let mut subjects = vec![
        by_docker(
            "docker CLI on gorae",
            &["run", "--rm", image::BUSYBOX, "true"],
        ),
        by_docker("docker version on gorae", &["version"]),
    ];
    if let Some(peers) = &bench.peers {
        subjects.push(peers.subject(
            "docker CLI on dockerd",
            &["docker", "run", "--rm", image::BUSYBOX, "true"],
        ));
        subjects.push(peers.subject("docker version on dockerd", &["docker", "version"]));
    }
    let mut row = Row::new(
        "the same through the docker CLI",
        Unit::Milliseconds,
        turns(bench, &subjects)?,
    );
    let over = row
        .median("docker CLI on gorae")
        .zip(row.median("docker version on gorae"))
        .map(|(run, version)| run - version);
    row.goals.push(Goal::new(
        "at most 25 ms over docker version on gorae",
        over.map(|over| over <= 25.0),
    ));
    Ok(vec![row])
}

fn exec(bench: &Bench) -> Result<Vec<Row>> {
    const NAME: &str = "bench-exec";
    bench.gorae.call(
        &[
            &["run", "--detach", "--name", NAME, image::BUSYBOX],
            FOREVER.as_slice(),
        ]
        .concat(),
    )?;
    let mut subjects = vec![bench.gorae.subject(&["exec", NAME, "true"])];
    if let Some(peers) = &bench.peers {
        for (engine, image) in [("docker", image::BUSYBOX), ("podman", PODMAN_BUSYBOX)] {
            peers.call(
                &[
                    &[engine, "run", "--detach", "--name", NAME, image],
                    FOREVER.as_slice(),
                ]
                .concat(),
            )?;
            subjects.push(peers.subject(engine, &[engine, "exec", NAME, "true"]));
        }
    }
    let figures = turns(bench, &subjects)?;
    bench.gorae.call(&["rm", "--force", NAME])?;
    for engine in ["docker", "podman"] {
        if let Some(peers) = &bench.peers {
            peers.call(&[remove(engine).as_slice(), &[NAME]].concat())?;
        }
    }
    let mut row = Row::new("exec true", Unit::Milliseconds, figures);
    row.goal_times_faster("docker", 15.0);
    Ok(vec![row])
}

/// One engine's commands for many containers.
#[derive(Debug)]
struct Crowd {
    start: Subject,
    remove: Subject,
    inspect: Vec<String>,
}

impl Crowd {
    fn new(engine: &'static str, image: &str, subject: impl Fn(&[&str]) -> Subject) -> Self {
        let names: Vec<String> = (1..=MANY).map(|number| format!("bench-{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let start = subject(
            &[
                &["run", "--detach", "--name", "bench-{n}", image],
                FOREVER.as_slice(),
            ]
            .concat(),
        );
        let remove = subject(&[&remove(engine)[1..], names.as_slice()].concat());
        let inspect = [&["inspect", "--format", "{{.State.Pid}}"], names.as_slice()].concat();
        Self {
            start,
            remove,
            inspect: inspect.into_iter().map(str::to_owned).collect(),
        }
    }
}

/// What the rows about many containers gather.
#[derive(Debug, Default)]
struct Crowded {
    start: Vec<Figure>,
    remove: Vec<Figure>,
    monitors: Vec<Figure>,
    engines: Vec<Figure>,
}

fn fifty(bench: &Bench) -> Result<Vec<Row>> {
    let mut crowds = vec![Crowd::new("gorae", image::BUSYBOX, |words| {
        bench.gorae.subject(words)
    })];
    if let Some(peers) = &bench.peers {
        for (engine, image) in [("docker", image::BUSYBOX), ("podman", PODMAN_BUSYBOX)] {
            crowds.push(Crowd::new(engine, image, |words| {
                peers.subject(engine, &[&[engine], words].concat())
            }));
        }
    }
    let mut all = Crowded::default();
    for crowd in &crowds {
        for list in [
            &mut all.start,
            &mut all.remove,
            &mut all.monitors,
            &mut all.engines,
        ] {
            list.push(Figure::new(crowd.start.name));
        }
    }
    for _ in 0..bench.plan.long_rounds {
        for (number, crowd) in crowds.iter().enumerate() {
            all.start[number].samples.extend(crowd.start.time(MANY)?);
            measure_memory(
                bench,
                crowd,
                &mut all.monitors[number],
                &mut all.engines[number],
            )?;
            all.remove[number].samples.extend(crowd.remove.time(1)?);
        }
    }
    Ok(crowd_rows(all))
}

fn crowd_rows(all: Crowded) -> Vec<Row> {
    let mut start = Row::new(
        "50 x run -d, one after another, each",
        Unit::Milliseconds,
        all.start,
    );
    start.goal_at_most(10.0);
    let mut remove = Row::new("rm -f of 50 running", Unit::Milliseconds, all.remove);
    remove.goal_at_most(400.0);
    let mut monitors = Row::new(
        "memory for an idle container: PSS of the processes that exist for it",
        Unit::Megabytes,
        all.monitors,
    );
    monitors.goal_at_most(0.30);
    let mut engines = Row::new(
        "RSS of the engine with 50 containers",
        Unit::Megabytes,
        all.engines,
    );
    engines.figures.retain(|figure| !figure.samples.is_empty());
    engines.goal_at_most(25.0);
    vec![start, remove, monitors, engines]
}

fn measure_memory(
    bench: &Bench,
    crowd: &Crowd,
    monitors: &mut Figure,
    engines: &mut Figure,
) -> Result<()> {
    let engine = crowd.start.name;
    let inspect: Vec<&str> = crowd.inspect.iter().map(String::as_str).collect();
    let (pids, engine_pids) = match &bench.peers {
        Some(peers) if engine != "gorae" => {
            let engine_pids = if engine == "docker" {
                peers.docker_engine()?
            } else {
                Vec::new()
            };
            (
                peers.call(&[&[engine], inspect.as_slice()].concat())?,
                engine_pids,
            )
        }
        _ => (bench.gorae.call(&inspect)?, vec![bench.gorae.pid()]),
    };
    let inits: Vec<u32> = pids
        .split_whitespace()
        .map(|pid| {
            pid.parse()
                .with_context(|| format!("read pid {pid:?} of {engine}"))
        })
        .collect::<Result<_>>()?;
    let found = memory::monitors(&inits);
    if inits.len() != usize::try_from(MANY)? || found.len() != inits.len() {
        bail!(
            "{engine} has {} containers and {} processes that watch them",
            inits.len(),
            found.len()
        );
    }
    let bytes = found
        .iter()
        .map(|pid| memory::proportional(*pid))
        .sum::<Result<u64>>()?;
    monitors.samples.push(bytes as f64 / 1e6 / f64::from(MANY));
    if !engine_pids.is_empty() {
        let bytes = engine_pids
            .iter()
            .map(|pid| memory::resident(*pid))
            .sum::<Result<u64>>()?;
        engines.samples.push(bytes as f64 / 1e6);
    }
    Ok(())
}
