//! `save` and `load` of the large image.

use super::lab::{Lab, cold, one};
use crate::bench::image::Packing;
use crate::bench::report::{Bound, Figure, Row, Unit};
use anyhow::Result;

pub(super) fn measure(lab: &Lab<'_>) -> Result<Vec<Row>> {
    let large = lab.large(Packing::Gzip)?;
    let image = lab.publish(&large, "all")?;
    let engines = lab.engines();
    let mut saves: Vec<Figure> = engines.iter().map(|one| Figure::new(one.name())).collect();
    let (mut loads, mut dockers) = (saves.clone(), saves.clone());
    let folder = lab.scratch("archive")?;
    let of_docker = folder.join("docker.tar");
    for engine in engines.iter().filter(|engine| engine.name() == "docker") {
        engine.pull(&image)?;
        engine.call(&["save", "--output", &engine.seen(&of_docker), &image])?;
        engine.remove(&image)?;
    }
    for _ in 0..lab.bench.plan.long_rounds {
        for (number, engine) in engines.iter().enumerate() {
            let own = folder.join("own.tar");
            let own_seen = engine.seen(&own);
            engine.pull(&image)?;
            cold()?;
            let save = engine.subject(&["save", "--output", &own_seen, &image]);
            saves[number].samples.push(one(&save)?);
            engine.remove(&image)?;
            for (file, figure) in [
                (&own, &mut loads[number]),
                (&of_docker, &mut dockers[number]),
            ] {
                cold()?;
                let load = engine.subject(&["load", "--quiet", "--input", &engine.seen(file)]);
                figure.samples.push(one(&load)?);
                engine.remove(&image)?;
            }
            std::fs::remove_file(&own)?;
        }
    }
    lab.scratch("archive")?;
    let row = |title: &str, figures| {
        let mut row = Row::new(title, Unit::Milliseconds, figures);
        row.goal_ratio("docker", "gorae", Bound::AtLeast(3.0));
        row
    };
    Ok(vec![
        row("save of the 909 MB image", saves),
        row("load of what the engine itself saved", loads),
        row("load of what docker saved", dockers),
    ])
}
