//! A project of C whose objects lie in a cache mount, after one line of its sources changed.

use super::lab::{Builder, Lab, one, write};
use crate::bench::peers::Peers;
use crate::bench::report::{Bound, Figure, Goal, Row, Unit};
use crate::bench::subject::{Place, Subject, word};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the build may take beyond the compiler, milliseconds.
const BEYOND: f64 = 200.0;
/// Files of the project.
const FILES: u32 = 60;
/// The image with the compiler.
const IMAGE: &str = "bench/gcc";

pub(super) fn measure(lab: &Lab<'_>) -> Result<Vec<Row>> {
    let archive = compiler(lab)?;
    let mut figures = vec![Figure::new("the compiler alone")];
    let mut contexts = Vec::new();
    for builder in lab.builders() {
        if matches!(builder, Builder::Buildah(_)) {
            continue;
        }
        load(&builder, &archive)?;
        let context = lab.context(&format!("c-{}", builder.name().replace(' ', "-")))?;
        project(&context)?;
        builder.once(&context, &["-t", "bench/c"])?;
        figures.push(Figure::new(builder.name()));
        contexts.push((builder, context));
    }
    let own = lab.context("c-alone")?;
    project(&own)?;
    one(&make(&own))?;
    for round in 0..lab.bench.plan.long_rounds {
        change(&own, round)?;
        figures[0].samples.push(one(&make(&own))?);
        for ((builder, context), figure) in contexts.iter().zip(&mut figures[1..]) {
            change(context, round)?;
            figure
                .samples
                .push(builder.once(context, &["-t", "bench/c"])?);
        }
    }
    let mut row = Row::new(
        "a C project with a cache mount, one line changed",
        Unit::Milliseconds,
        figures,
    );
    let beyond = row
        .median("gorae")
        .zip(row.median("the compiler alone"))
        .map(|(build, alone)| build - alone);
    let found = beyond.map_or_else(String::new, |beyond| format!(" ({beyond:.0})"));
    row.goals.push(Goal::new(
        &format!("at most {BEYOND} ms beyond the compiler{found}"),
        beyond.map(|beyond| beyond <= BEYOND),
    ));
    row.goal_ratio("docker", "gorae", Bound::AtLeast(1.0));
    Ok(vec![row])
}

/// This machine's compiler with what it needs, as an archive.
fn compiler(lab: &Lab<'_>) -> Result<PathBuf> {
    let archive = lab.bench.folder.join("gcc.tar");
    if archive.exists() {
        return Ok(archive);
    }
    let coming = archive.with_extension("coming");
    let status = Command::new("tar")
        .args(["--create", "--file", &word(&coming), "--directory", "/"])
        .args([
            "--exclude=usr/lib/x86_64-linux-gnu/dri",
            "--ignore-failed-read",
        ])
        .args(["bin", "lib", "lib64", "sbin", "usr/bin", "usr/include"])
        .args([
            "usr/lib/gcc",
            "usr/lib/x86_64-linux-gnu",
            "etc/ld.so.cache",
            "etc/alternatives",
        ])
        .status()
        .context("start tar")?;
    anyhow::ensure!(status.success(), "tar ended with {status}");
    std::fs::rename(&coming, &archive).context("keep the compiler's archive")?;
    Ok(archive)
}

fn load(builder: &Builder<'_>, archive: &Path) -> Result<()> {
    match builder {
        Builder::Gorae(gorae) | Builder::Client(gorae, ..) => {
            gorae.call(&["import", &word(archive), IMAGE])?;
        }
        Builder::Docker(peers) | Builder::Buildah(peers) => {
            peers.call(&["docker", "import", &Peers::seen(archive), IMAGE])?;
        }
    }
    Ok(())
}

fn project(folder: &Path) -> Result<()> {
    let mut objects = String::new();
    for number in 0..FILES {
        let text =
            format!("#include <stdio.h>\nint f{number}(void) {{ return printf(\"{number}\"); }}\n");
        write(&folder.join(format!("src/f{number}.c")), text)?;
        objects.push_str(&format!(" $(OUT)/f{number}.o"));
    }
    write(&folder.join("src/main.c"), "int main(void) { return 0; }\n")?;
    let make = format!(
        "OUT ?= out\nprogram: $(OUT)/main.o{objects}\n\tgcc -o $(OUT)/program $^\n\
         $(OUT)/%.o: src/%.c\n\t@mkdir -p $(OUT)\n\tgcc -O2 -c -o $@ $<\n"
    );
    write(&folder.join("Makefile"), make)?;
    let dockerfile = format!(
        "FROM {IMAGE}\nWORKDIR /w\nCOPY . .\nRUN --mount=type=cache,target=/out make OUT=/out && cp /out/program /program\n"
    );
    write(&folder.join("Dockerfile"), dockerfile)
}

fn change(folder: &Path, round: u32) -> Result<()> {
    let text = format!("int main(void) {{ return {round}; }}\n");
    write(&folder.join("src/main.c"), text)
}

/// The same without a container.
fn make(folder: &Path) -> Subject {
    Subject {
        name: "the compiler alone",
        command: ["make", "-s", "-C", &word(folder)]
            .map(str::to_owned)
            .to_vec(),
        place: Place::Here(Vec::new()),
    }
}
