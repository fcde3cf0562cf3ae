//! Projects of C and of Rust whose objects lie in a cache mount, after one line of their sources changed.

use super::lab::{Builder, Lab, fresh_word, one, write};
use crate::bench::peers::Peers;
use crate::bench::report::{Bound, Figure, Goal, Row, Unit};
use crate::bench::subject::{Place, Subject, word};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the build may take beyond the compiler, milliseconds.
const BEYOND: f64 = 200.0;
/// Files of a project.
const FILES: u32 = 60;
/// The image with the compilers.
const IMAGE: &str = "bench/compilers";

/// A language's project.
struct Project {
    name: &'static str,
    /// Writes its sources, all but the one that changes.
    write: fn(&Path) -> Result<()>,
    /// Writes the source that changes.
    change: fn(&Path) -> Result<()>,
    /// Builds it in this folder without a container.
    alone: fn(&Path) -> Result<Subject>,
}

const PROJECTS: [Project; 2] = [
    Project {
        name: "C",
        write: c,
        change: change_c,
        alone: make,
    },
    Project {
        name: "Rust",
        write: rust,
        change: change_rust,
        alone: cargo,
    },
];

pub(super) fn measure(lab: &Lab<'_>) -> Result<Vec<Row>> {
    let archive = compilers(lab)?;
    let builders: Vec<Builder<'_>> = lab
        .builders()
        .into_iter()
        .filter(|builder| !matches!(builder, Builder::Buildah(_)))
        .collect();
    for builder in &builders {
        // both of our own use the same store
        if !matches!(builder, Builder::Client(..)) {
            load(builder, &archive)?;
        }
    }
    PROJECTS
        .iter()
        .map(|project| row(lab, &builders, project))
        .collect()
}

fn row(lab: &Lab<'_>, builders: &[Builder<'_>], project: &Project) -> Result<Row> {
    let mut figures = vec![Figure::new("the compiler alone")];
    let mut contexts = Vec::new();
    for builder in builders {
        let name = format!("{}-{}", project.name, builder.name().replace(' ', "-"));
        let context = lab.context(&name)?;
        (project.write)(&context)?;
        (project.change)(&context)?;
        builder.once(&context, &["-t", "bench/source"])?;
        figures.push(Figure::new(builder.name()));
        contexts.push((builder, context));
    }
    let own = lab.context(&format!("{}-alone", project.name))?;
    (project.write)(&own)?;
    (project.change)(&own)?;
    one(&(project.alone)(&own)?)?;
    for _round in 0..lab.bench.plan.long_rounds {
        (project.change)(&own)?;
        figures[0].samples.push(one(&(project.alone)(&own)?)?);
        for ((builder, context), figure) in contexts.iter().zip(&mut figures[1..]) {
            (project.change)(context)?;
            let time = builder.once(context, &["-t", "bench/source"])?;
            figure.samples.push(time);
        }
    }
    Ok(judged(project, figures))
}

fn judged(project: &Project, figures: Vec<Figure>) -> Row {
    let mut row = Row::new(
        &format!(
            "a {} project with a cache mount, one line changed",
            project.name
        ),
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
    row
}

/// This machine's compilers with what they need, as an archive.
fn compilers(lab: &Lab<'_>) -> Result<PathBuf> {
    let archive = lab.bench.folder.join("compilers.tar");
    if archive.exists() {
        return Ok(archive);
    }
    let coming = archive.with_extension("coming");
    let rust = sysroot()?;
    let status = Command::new("tar")
        .args(["--create", "--file", &word(&coming), "--ignore-failed-read"])
        .args(["--exclude=usr/lib/x86_64-linux-gnu/dri"])
        // only the toolchain's own names are moved, and no target of a link
        .arg(format!(
            "--transform=s,^{},rust,rS",
            word(&rust).trim_start_matches('/')
        ))
        .args(["--directory", "/", "bin", "lib", "lib64", "sbin", "usr/bin"])
        .args(["usr/include", "usr/lib/gcc", "usr/lib/x86_64-linux-gnu"])
        .args(["usr/lib64", "usr/sbin"])
        .args(["etc/ld.so.cache", "etc/alternatives"])
        .args(
            toolchain(&rust)?
                .iter()
                .map(|path| word(path).trim_start_matches('/').to_owned()),
        )
        .status()
        .context("start tar")?;
    anyhow::ensure!(status.success(), "tar ended with {status}");
    std::fs::rename(&coming, &archive).context("keep the compilers' archive")?;
    Ok(archive)
}

fn sysroot() -> Result<PathBuf> {
    let found = Command::new("rustc")
        .args(["--print", "sysroot"])
        .output()
        .context("ask rustc for its folder")?;
    let path = String::from_utf8(found.stdout).context("rustc's folder")?;
    Ok(PathBuf::from(path.trim()))
}

/// What a compilation takes of a toolchain: the programs, their libraries, and the standard library.
fn toolchain(rust: &Path) -> Result<Vec<PathBuf>> {
    let mut all = vec![
        rust.join("bin/cargo"),
        rust.join("bin/rustc"),
        rust.join("lib/rustlib/x86_64-unknown-linux-gnu"),
    ];
    let lib = rust.join("lib");
    for entry in std::fs::read_dir(&lib).with_context(|| format!("read {}", lib.display()))? {
        let path = entry
            .with_context(|| format!("read {}", lib.display()))?
            .path();
        if word(&path).contains(".so") {
            all.push(path);
        }
    }
    Ok(all)
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

fn c(folder: &Path) -> Result<()> {
    let mut objects = String::new();
    for number in 0..FILES {
        let text =
            format!("#include <stdio.h>\nint f{number}(void) {{ return printf(\"{number}\"); }}\n");
        write(&folder.join(format!("src/f{number}.c")), text)?;
        objects.push_str(&format!(" $(OUT)/f{number}.o"));
    }
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

fn change_c(folder: &Path) -> Result<()> {
    let text = format!(
        "char word[] = \"{}\"; int main(void) {{ return word[0]; }}\n",
        fresh_word()?
    );
    write(&folder.join("src/main.c"), text)
}

/// The C project without a container.
fn make(folder: &Path) -> Result<Subject> {
    Ok(Subject {
        name: "the compiler alone",
        command: ["make", "-s", "-C", &word(folder)]
            .map(str::to_owned)
            .to_vec(),
        place: Place::Here(Vec::new()),
    })
}

fn rust(folder: &Path) -> Result<()> {
    let mut library = String::new();
    for number in 0..FILES {
        let text = format!("pub fn f() -> String {{ format!(\"{{}}\", {number}) }}\n");
        write(&folder.join(format!("library/src/f{number}.rs")), text)?;
        library.push_str(&format!("pub mod f{number};\n"));
    }
    write(&folder.join("library/src/lib.rs"), library)?;
    let package = |name: &str| format!("[package]\nname = \"{name}\"\nedition = \"2021\"\n");
    write(&folder.join("library/Cargo.toml"), package("library"))?;
    let own =
        package("program") + "[dependencies]\nlibrary = { path = \"library\" }\n[workspace]\n";
    write(&folder.join("Cargo.toml"), own)?;
    let dockerfile = format!(
        "FROM {IMAGE}\nENV PATH=/rust/bin:/usr/bin:/bin\nWORKDIR /w\nCOPY . .\n\
         RUN --mount=type=cache,target=/out cargo build --offline --target-dir /out && cp /out/debug/program /program\n"
    );
    write(&folder.join("Dockerfile"), dockerfile)
}

fn change_rust(folder: &Path) -> Result<()> {
    let word = fresh_word()?;
    let text = format!("fn main() {{ println!(\"{{}} {word}\", library::f7::f()); }}\n");
    write(&folder.join("src/main.rs"), text)
}

/// The Rust project without a container.
fn cargo(folder: &Path) -> Result<Subject> {
    let program = sysroot()?.join("bin/cargo");
    let manifest = folder.join("Cargo.toml");
    let target = folder.join("out");
    Ok(Subject {
        name: "the compiler alone",
        command: [
            &word(&program),
            "build",
            "--offline",
            "--manifest-path",
            &word(&manifest),
            "--target-dir",
            &word(&target),
        ]
        .map(str::to_owned)
        .to_vec(),
        // over this project's own settings, below which the folder may lie
        place: Place::Here(vec![(
            "RUSTFLAGS",
            "-Ctarget-feature=-crt-static".to_owned(),
        )]),
    })
}
