//! Graphs that are solved: what runs, what is found, and what goes on for whom.

use std::sync::Arc;
use std::time::Duration;

use builder::cache::keys::{Part, key};
use builder::cache::{ImportedRecord, PruneRequest};
use builder::job::{Job, JobOptions, Ref};
use builder::llb::{digest_of, pb};
use oci::Digest;
use pb::file_action::Action;
use prost::Message as _;

use crate::fixture::{Fixture, can_run, read, with_builder};

/// No test waits longer.
const PATIENCE: Duration = Duration::from_secs(120);

/// A definition that grows.
#[derive(Default)]
struct Script {
    definition: pb::Definition,
}

impl Script {
    fn add(&mut self, inputs: &[&Digest], op: pb::op::Op) -> Digest {
        let inputs = inputs.iter().map(|digest| pb::Input {
            digest: digest.to_string(),
            index: 0,
        });
        let bytes = pb::Op {
            inputs: inputs.collect(),
            op: Some(op),
            ..pb::Op::default()
        }
        .encode_to_vec();
        let digest = digest_of(&bytes);
        self.definition.def.push(bytes);
        digest
    }

    fn file(&mut self, inputs: &[&Digest], actions: Vec<Action>) -> Digest {
        let count = i64::try_from(inputs.len()).unwrap();
        let last = actions.len() - 1;
        let actions = actions.into_iter().enumerate().map(|(at, action)| {
            let first = if inputs.is_empty() { -1 } else { 0 };
            let before = count + i64::try_from(at).unwrap() - 1;
            pb::FileAction {
                input: if at == 0 { first } else { before },
                secondary_input: if matches!(action, Action::Copy(_)) {
                    1
                } else {
                    -1
                },
                output: if at == last { 0 } else { -1 },
                action: Some(action),
            }
        });
        let actions = actions.collect();
        self.add(inputs, pb::op::Op::File(pb::FileOp { actions }))
    }

    /// A shell, and a command in it.
    fn shell(&mut self) -> Digest {
        let data = std::fs::read("/bin/busybox").unwrap();
        let links = ["sh", "cat", "sleep", "head", "echo"].map(|name| {
            Action::Symlink(pb::FileActionSymlink {
                oldpath: "busybox".to_owned(),
                newpath: format!("/bin/{name}"),
                timestamp: -1,
                ..pb::FileActionSymlink::default()
            })
        });
        let mut actions = vec![mkdir("/bin"), mkfile("/bin/busybox", data)];
        actions.extend(links);
        self.file(&[], actions)
    }

    fn exec(&mut self, input: &Digest, command: &str, network: pb::NetMode) -> Digest {
        let op = pb::ExecOp {
            meta: Some(pb::Meta {
                args: ["/bin/sh", "-c", command].map(str::to_owned).to_vec(),
                env: vec!["PATH=/bin".to_owned()],
                cwd: "/".to_owned(),
                ..pb::Meta::default()
            }),
            network: network.into(),
            mounts: vec![pb::Mount {
                dest: "/".to_owned(),
                ..pb::Mount::default()
            }],
            ..pb::ExecOp::default()
        };
        self.add(&[input], pb::op::Op::Exec(op))
    }

    /// The definition of one of its vertices.
    fn target(&self, target: &Digest) -> pb::Definition {
        let mut definition = self.definition.clone();
        let last = pb::Op {
            inputs: vec![pb::Input {
                digest: target.to_string(),
                index: 0,
            }],
            ..pb::Op::default()
        };
        definition.def.push(last.encode_to_vec());
        definition
    }

    fn ignore_cache(&mut self, vertex: &Digest) {
        let metadata = pb::OpMetadata {
            ignore_cache: true,
            ..pb::OpMetadata::default()
        };
        self.definition
            .metadata
            .insert(vertex.to_string(), metadata);
    }
}

fn mkdir(path: &str) -> Action {
    Action::Mkdir(pb::FileActionMkDir {
        path: path.to_owned(),
        mode: 0o755,
        timestamp: -1,
        ..pb::FileActionMkDir::default()
    })
}

fn mkfile(path: &str, data: impl Into<Vec<u8>>) -> Action {
    Action::Mkfile(pb::FileActionMkFile {
        path: path.to_owned(),
        mode: 0o755,
        data: data.into(),
        timestamp: -1,
        ..pb::FileActionMkFile::default()
    })
}

fn copy(src: &str, dest: &str) -> Action {
    Action::Copy(pb::FileActionCopy {
        src: src.to_owned(),
        dest: dest.to_owned(),
        mode: -1,
        timestamp: -1,
        create_dest_path: true,
        ..pb::FileActionCopy::default()
    })
}

fn job(fixture: &Fixture) -> Arc<Job> {
    fixture.builder.job(JobOptions::default()).unwrap()
}

/// How the steps of a job went: those that came from the cache, and those that ran.
fn went(job: &Arc<Job>) -> (usize, usize) {
    job.end();
    let (mut cached, mut ran) = (0, 0);
    let mut told = job.progress.subscribe();
    while let (Some(update), _) = told.take() {
        for vertex in update.vertexes.iter().filter(|v| v.completed.is_some()) {
            if vertex.cached { cached += 1 } else { ran += 1 }
        }
    }
    (cached, ran)
}

async fn solve(fixture: &Fixture, definition: pb::Definition) -> (String, (usize, usize)) {
    let job = job(fixture);
    let result = Ref::new(&job, definition).unwrap();
    let snapshot = tokio::time::timeout(PATIENCE, result.snapshot()).await;
    let snapshot = snapshot.unwrap().unwrap();
    (snapshot.id().to_owned(), went(&job))
}

/// Two files, of which a later step copies one; and a step after that.
fn copies_one_of_two(beside: &str) -> pb::Definition {
    let mut script = Script::default();
    let files = script.file(&[], vec![mkfile("/a", "1"), mkfile("/b", beside)]);
    let base = script.file(&[], vec![mkdir("/base")]);
    let copied = script.file(&[&base, &files], vec![copy("/a", "/got")]);
    let after = script.file(&[&copied], vec![mkdir("/after")]);
    script.target(&after)
}

#[test]
fn what_was_built_is_found() {
    with_builder(async |fixture| {
        let (first, how) = solve(fixture, copies_one_of_two("1")).await;
        assert_eq!(how, (0, 4));
        let (again, how) = solve(fixture, copies_one_of_two("1")).await;
        assert_eq!((again == first, how), (true, (4, 0)));
        let usage = async || fixture.builder.cache.disk_usage(&[]).await.unwrap();
        assert_eq!(usage().await.len(), 4);
        // tasks of the jobs that have ended let go of what they had when they next run
        let begun = std::time::Instant::now();
        while let Some(held) = usage().await.iter().find(|usage| usage.in_use) {
            assert!(begun.elapsed() < PATIENCE, "{held:?}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    });
}

#[test]
fn what_a_step_does_not_read_does_not_count() {
    with_builder(async |fixture| {
        let (first, _) = solve(fixture, copies_one_of_two("1")).await;
        let (second, how) = solve(fixture, copies_one_of_two("2")).await;
        assert_eq!((second == first, how), (true, (3, 1)));
        // the second way to it is known now
        let (_, how) = solve(fixture, copies_one_of_two("2")).await;
        assert_eq!(how, (4, 0));
    });
}

#[test]
fn what_is_wanted_anew_is_made_anew_and_found_then() {
    with_builder(async |fixture| {
        let mut script = Script::default();
        let base = script.file(&[], vec![mkdir("/base")]);
        let middle = script.file(&[&base], vec![mkdir("/middle")]);
        let after = script.file(&[&middle], vec![mkdir("/after")]);
        let plain = script.target(&after);
        let (first, _) = solve(fixture, plain.clone()).await;
        script.ignore_cache(&middle);
        let (second, how) = solve(fixture, script.target(&after)).await;
        assert_eq!((second == first, how), (false, (1, 2)));
        let (third, how) = solve(fixture, plain).await;
        assert_eq!((third == second, how), (true, (3, 0)));
    });
}

#[test]
fn equal_work_is_done_once() {
    if !can_run() {
        return;
    }
    with_builder(async |fixture| {
        let mut script = Script::default();
        let shell = script.shell();
        let step = script.exec(
            &shell,
            "sleep 1; head -c 9 /proc/sys/kernel/random/uuid > /out",
            pb::NetMode::None,
        );
        let definition = script.target(&step);
        let jobs: Vec<_> = (0..3).map(|_| job(fixture)).collect();
        let refs = jobs
            .iter()
            .map(|job| Ref::new(job, definition.clone()).unwrap());
        let refs: Vec<_> = refs.collect();
        let mut all = Vec::new();
        for result in refs {
            all.push(tokio::spawn(async move { result.snapshot().await }));
        }
        // one of them goes; the others do not notice
        while fixture.builder.solver.busy() == 0 {
            assert!(!all[0].is_finished());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        jobs[0].end();
        let mut found = Vec::new();
        for one in all {
            found.push(tokio::time::timeout(PATIENCE, one).await.unwrap().unwrap());
        }
        let outs: Vec<_> = found[1..]
            .iter()
            .map(|s| read(s.as_ref().unwrap(), "/out"))
            .collect();
        assert_eq!(outs[0], outs[1]);
        assert_eq!(fixture.builder.solver.busy(), 0);
    });
}

#[test]
fn what_nobody_wants_any_more_ends() {
    if !can_run() {
        return;
    }
    with_builder(async |fixture| {
        let mut script = Script::default();
        let shell = script.shell();
        let step = script.exec(&shell, "echo begun; sleep 1000", pb::NetMode::None);
        let job = job(fixture);
        let result = Ref::new(&job, script.target(&step)).unwrap();
        let mut told = job.progress.subscribe();
        let waiting = tokio::spawn(async move { result.snapshot().await });
        let begun = async {
            while let Some(update) = told.next().await {
                if !update.logs.is_empty() {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, begun).await.unwrap();
        job.end();
        let error = tokio::time::timeout(PATIENCE, waiting).await.unwrap();
        assert!(error.unwrap().unwrap_err().is_canceled());
        let until = std::time::Instant::now() + PATIENCE;
        while fixture.builder.solver.busy() > 0 {
            assert!(std::time::Instant::now() < until, "the step goes on");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
}

#[test]
fn what_fails_says_where() {
    if !can_run() {
        return;
    }
    with_builder(async |fixture| {
        let mut script = Script::default();
        let shell = script.shell();
        let step = script.exec(&shell, "echo no such luck; exit 7", pb::NetMode::None);
        let after = script.file(&[&step], vec![mkdir("/after")]);
        let job = job(fixture);
        let result = Ref::new(&job, script.target(&after)).unwrap();
        let error = tokio::time::timeout(PATIENCE, result.snapshot())
            .await
            .unwrap()
            .unwrap_err();
        assert_eq!(error.vertex(), Some(&step));
        assert_eq!(error.exit_code(), Some(7), "{error}");
        assert!(String::from_utf8_lossy(error.output()).contains("no such luck"));
        job.end();
        // it is not found the next time
        assert_eq!(
            fixture.builder.cache.disk_usage(&[]).await.unwrap().len(),
            1
        );
    });
}

#[test]
fn nobody_gets_more_than_was_allowed() {
    with_builder(async |fixture| {
        let mut script = Script::default();
        let base = script.file(&[], vec![mkdir("/base")]);
        let step = script.exec(&base, "true", pb::NetMode::Host);
        let result = Ref::new(&fixture.job, script.target(&step)).unwrap();
        let error = result.snapshot().await.unwrap_err();
        assert_eq!(error.message(), "network.host is not allowed");
        assert_eq!(error.vertex(), Some(&step));
    });
}

#[test]
fn a_job_keeps_what_it_uses() {
    with_builder(async |fixture| {
        let job = job(fixture);
        let result = Ref::new(&job, copies_one_of_two("1")).unwrap();
        result.snapshot().await.unwrap();
        let cache = &fixture.builder.cache;
        let all = || PruneRequest {
            all: true,
            ..PruneRequest::default()
        };
        assert!(cache.prune(all()).await.unwrap().is_empty());
        job.end();
        drop((job, result));
        assert_eq!(cache.prune(all()).await.unwrap().len(), 4);
        let (_, how) = solve(fixture, copies_one_of_two("1")).await;
        assert_eq!(how, (0, 4));
    });
}

#[test]
fn what_was_exported_is_found_by_another() {
    with_builder(async |fixture| {
        let first = job(fixture);
        let result = Ref::new(&first, copies_one_of_two("1")).unwrap();
        let snapshot = result.snapshot().await.unwrap();
        let records = first.exportable(std::slice::from_ref(&result)).unwrap();
        assert_eq!(records.len(), 4);
        assert!(records[3].result && !records[0].result);
        let mut primaries: Vec<Digest> = Vec::new();
        let mut imported = Vec::new();
        for record in &records {
            let made = record.inputs.iter().map(|input| Part::Made {
                primary: primaries[input.record].clone(),
                output: input.output,
            });
            let made: Vec<_> = made.collect();
            let held = made.iter().zip(&record.inputs);
            let held =
                held.map(|(part, input)| input.content.clone().map_or(part.clone(), Part::Content));
            let primary = key(&record.operation, &made);
            imported.push(ImportedRecord {
                keys: vec![
                    primary.clone(),
                    key(&record.operation, &held.collect::<Vec<_>>()),
                ],
                primary: primary.clone(),
                outputs: record.outputs.clone(),
                description: record.description.clone(),
            });
            primaries.push(primary);
        }
        first.end();
        drop((first, result));
        let all = PruneRequest {
            all: true,
            ..PruneRequest::default()
        };
        fixture.builder.cache.prune(all).await.unwrap();
        let second = job(fixture);
        second.import(imported);
        let result = Ref::new(&second, copies_one_of_two("2")).unwrap();
        assert_eq!(result.snapshot().await.unwrap().id(), snapshot.id());
        assert_eq!(went(&second), (3, 1));
    });
}
