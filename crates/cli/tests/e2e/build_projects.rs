//! Projects in the shape of real ones, a language each, built by every client and run.
//!
//! Their bases are made of Debian's packages by `scripts/fetch-build-bases`. After each build one line of the source
//! changes, so that the next client compiles what changed, with what the caches of the last build have.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use testkit::docker::{Client, Outcome, Session};
use testkit::engine::Engine;

use crate::bench::engine;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/build");
const BASES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/build-bases");
/// What a build may take where everything else runs at the same time.
const LIMIT: Duration = Duration::from_secs(600);

/// How a project is built.
#[derive(Clone, Copy, Debug, PartialEq)]
enum By {
    Gorae,
    Buildx,
    Bake,
    Compose,
    Classic,
    Python,
}

impl By {
    const ALL: [Self; 6] = [
        Self::Gorae,
        Self::Buildx,
        Self::Bake,
        Self::Compose,
        Self::Classic,
        Self::Python,
    ];

    fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    /// Whether the client can give a step a secret.
    fn has_secrets(self) -> bool {
        !matches!(self, Self::Classic | Self::Python)
    }
}

/// A project, and what is known of its build.
struct Project {
    name: &'static str,
    /// The images that it starts from.
    bases: &'static [&'static str],
    /// The file that changes.
    source: &'static str,
    /// What the image prints, before who built it.
    says: &'static str,
    /// Words of steps that nothing changes for.
    kept: &'static [&'static str],
    /// Words of the step that compiles what changed.
    changed: &'static str,
}

/// An engine that has the bases, and the folder of the project.
struct Place {
    engine: Engine,
    folder: PathBuf,
    project: &'static Project,
}

fn finish(command: Command) -> Outcome {
    Session::pipes(command).unwrap().finish_within(LIMIT)
}

impl Place {
    /// Nothing where the bases were not made, which is said.
    fn new(project: &'static Project) -> Option<Self> {
        let archive = |base: &str| Path::new(BASES).join(base).with_extension("tar");
        if let Some(base) = project.bases.iter().find(|base| !archive(base).is_file()) {
            println!(
                "skipped: there is no {}: run scripts/fetch-build-bases",
                archive(base).display()
            );
            return None;
        }
        let engine = engine();
        for base in project.bases {
            let line = format!("import {} base-{base}", archive(base).display());
            engine
                .session(Client::Gorae, &line)
                .finish_within(LIMIT)
                .ok();
        }
        let folder = engine.home().join(project.name);
        copy(
            &Path::new(FOLDER).join("projects").join(project.name),
            &folder,
        );
        let (name, token) = (project.name, "a token");
        fs::write(engine.home().join("token"), token).unwrap();
        let compose = format!(
            "services:\n  app:\n    image: {name}-compose\n    build:\n      context: .\n      secrets: [token]\nsecrets:\n  token:\n    file: ../token\n"
        );
        fs::write(folder.join("compose.yaml"), compose).unwrap();
        let bake = format!(
            "target \"default\" {{\n  context = \".\"\n  tags = [\"{name}-bake\"]\n  secret = [\"id=token,src=../token\"]\n}}\n"
        );
        fs::write(folder.join("docker-bake.hcl"), bake).unwrap();
        Some(Self {
            engine,
            folder,
            project,
        })
    }

    /// Says in one line of the source who builds it.
    fn change(&self, by: &str) {
        let path = self.folder.join(self.project.source);
        let text = fs::read_to_string(&path).unwrap();
        let lines = text.lines().map(|line| {
            let is_it =
                line.to_lowercase().replace('_', "").contains("builtby") && line.contains('=');
            let quote = |line: &str| line.find(['"', '\'']);
            match (is_it, quote(line)) {
                (true, Some(start)) => {
                    let mark = &line[start..=start];
                    let end = line.rfind(mark).unwrap();
                    format!("{}{mark}{by}{}\n", &line[..start], &line[end..])
                }
                _ => format!("{line}\n"),
            }
        });
        let changed: String = lines.collect();
        assert!(changed.contains(by), "{changed}");
        fs::write(&path, changed).unwrap();
    }

    /// What the client said.
    fn build(&self, by: By) -> String {
        let folder = self.folder.display().to_string();
        let tag = format!("{}-{}", self.project.name, by.name());
        let secret = format!(
            "id=token,src={}",
            self.engine.home().join("token").display()
        );
        let docker = |words: &[&str]| self.engine.command(Client::Docker, words);
        let command = match by {
            By::Gorae => {
                let words = [
                    "build",
                    "--progress",
                    "plain",
                    "--secret",
                    &secret,
                    "-t",
                    &tag,
                    &folder,
                ];
                self.engine.command(Client::Gorae, words)
            }
            By::Buildx => docker(&[
                "buildx",
                "build",
                "--progress",
                "plain",
                "--secret",
                &secret,
                "-t",
                &tag,
                &folder,
            ]),
            By::Bake => docker(&[
                "buildx",
                "bake",
                "-f",
                "docker-bake.hcl",
                "--progress",
                "plain",
                "--allow",
                "fs.read=..",
            ]),
            By::Compose => docker(&["compose", "--progress", "plain", "build"]),
            By::Classic => docker(&["build", "-t", &tag, &folder]),
            By::Python => {
                let mut command = self.engine.program(testkit::docker::python());
                command
                    .arg(Path::new(FOLDER).join("build.py"))
                    .args([&folder, &tag]);
                command
            }
        };
        let mut command = command;
        command.current_dir(&self.folder);
        if by == By::Classic {
            command.env("DOCKER_BUILDKIT", "0");
        }
        let told = finish(command);
        told.ok();
        format!("{}{}", told.stdout, told.stderr)
    }

    fn run(&self, by: By) {
        let tag = format!("{}-{}", self.project.name, by.name());
        let line = format!("run --rm {tag} you");
        let told = self
            .engine
            .session(Client::Docker, &line)
            .finish_within(LIMIT);
        let expect = format!("{}, built by {}", self.project.says, by.name());
        assert_eq!(told.ok().trim(), expect, "{by:?}");
        let config = self.engine.inspect(
            &tag,
            "{{.Config.User}} {{.Config.Cmd}} {{len .Config.Healthcheck.Test}}",
        );
        assert!(
            config.contains("[world]") && !config.starts_with(' '),
            "{config}"
        );
    }
}

/// Whether a step was taken from the cache: BuildKit's clients give it a number, the classic builder's say so next.
fn is_cached(said: &str, step: &str) -> bool {
    let lines: Vec<&str> = said.lines().collect();
    let of_step = lines
        .iter()
        .enumerate()
        .filter(|(_, line)| line.contains(step));
    let mut of_step = of_step.map(|(at, line)| {
        let number = line.split_whitespace().next().unwrap_or_default();
        let done = format!("{number} CACHED");
        lines.iter().any(|line| *line == done)
            || lines
                .get(at + 1)
                .is_some_and(|next| next.contains("Using cache"))
    });
    of_step.any(|cached| cached)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            // not fs::copy: the time of the file is now
            fs::write(&target, fs::read(entry.path()).unwrap()).unwrap();
        }
    }
}

fn every_client_builds(project: &'static Project) {
    let Some(place) = Place::new(project) else {
        return;
    };
    for (number, by) in By::ALL.into_iter().enumerate() {
        place.change(&by.name());
        let said = place.build(by);
        place.run(by);
        let shows_steps = by != By::Python;
        if number > 0 && shows_steps {
            // a secret is no part of a step, but whether there is one is
            for step in project
                .kept
                .iter()
                .filter(|step| by.has_secrets() || !step.contains("secret"))
            {
                assert!(is_cached(&said, step), "{by:?} {step}: {said}");
            }
            assert!(said.contains(project.changed), "{by:?}: {said}");
            assert!(!is_cached(&said, project.changed), "{by:?}: {said}");
        }
        check_caches(project, number, &said);
    }
    let again = place.build(By::Gorae);
    assert!(is_cached(&again, project.changed), "{again}");
}

/// What the package managers and compilers found in their caches.
fn check_caches(project: &Project, number: usize, said: &str) {
    if number == 0 {
        return;
    }
    match project.name {
        // one of two files is compiled
        "c" => {
            assert!(said.contains("objects before: 3"), "{said}");
            assert!(
                said.contains("src/main.c") && !said.contains("-c -o /objects/words.o"),
                "{said}"
            );
        }
        "go" => assert!(!said.contains("packages before: 0\n"), "{said}"),
        "rust" => assert!(
            said.contains("Compiling greet") && !said.contains("Compiling itoa"),
            "{said}"
        ),
        _ => {}
    }
}

#[test]
fn a_project_in_c() {
    every_client_builds(&Project {
        name: "c",
        bases: &["c", "slim"],
        source: "src/main.c",
        says: "hello you from c",
        kept: &[
            "COPY include/ include/",
            "useradd",
            "RUN --mount=type=secret",
        ],
        changed: "COPY src/ src/",
    });
}

#[test]
fn a_project_in_go() {
    every_client_builds(&Project {
        name: "go",
        bases: &["go"],
        source: "main.go",
        says: "hello you from go",
        kept: &["COPY go.mod ./", "go mod download"],
        changed: "COPY --from=build --chown=500:500 /out/greet /greet",
    });
}

#[test]
fn a_project_in_java() {
    every_client_builds(&Project {
        name: "java",
        bases: &["java"],
        source: "src/org/example/Greet.java",
        says: "hello you from java",
        kept: &["RUN --mount=type=cache", "useradd"],
        changed: "COPY src/ src/",
    });
}

#[test]
fn a_project_in_javascript() {
    every_client_builds(&Project {
        name: "node",
        bases: &["node"],
        source: "src/index.js",
        says: "hello you (172800000) from node",
        kept: &["npm install", "groupadd", "COPY package.json ./"],
        changed: "COPY --chown=node:node",
    });
}

#[test]
fn a_project_in_python() {
    every_client_builds(&Project {
        name: "python",
        bases: &["python"],
        source: "app/__main__.py",
        says: "hello you from python",
        kept: &["pip install", "COPY --from=packages"],
        changed: "COPY --chown=app:app",
    });
}

#[test]
fn a_project_in_rust() {
    every_client_builds(&Project {
        name: "rust",
        bases: &["rust", "slim"],
        source: "src/main.rs",
        says: "hello you (3) from rust",
        kept: &["useradd", "COPY --link Cargo.toml"],
        changed: "COPY --link src/ src/",
    });
}
