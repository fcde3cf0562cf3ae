//! Pull, unpack and remove, from nothing and from cold caches.

use super::floor;
use super::lab::{Engine, Lab, OVERLAYFS, cold, one};
use crate::bench::image::{Large, Packing};
use crate::bench::peers::Peers;
use crate::bench::report::{Bound, Figure, Goal, Row, Unit};
use crate::bench::subject::{Place, Subject, word};
use anyhow::Result;

/// skopeo brings the image, umoci unpacks it.
const SKOPEO: &str = "skopeo + umoci";
const TAR: &str = "gzip -d | tar x";
const FLOOR: &str = "floor";

pub(super) fn gzip(lab: &Lab<'_>) -> Result<Vec<Row>> {
    let large = lab.large(Packing::Gzip)?;
    let [mut pull, mut remove, gone] = rows(lab, &large, true)?;
    pull.goals.push(at_most(&pull, "gorae", 3000.0));
    pull.goals.push(at_most(&pull, OVERLAYFS, 5000.0));
    pull.goal_ratio("docker", "gorae", Bound::AtLeast(1.0));
    pull.goal_ratio("gorae", FLOOR, Bound::AtMost(2.0));
    remove.goals.push(at_most(&remove, "gorae", 300.0));
    remove.goals.push(at_most(&remove, OVERLAYFS, 300.0));
    Ok(vec![pull, remove, gone])
}

pub(super) fn zstd(lab: &Lab<'_>) -> Result<Vec<Row>> {
    let large = lab.large(Packing::Zstd)?;
    let [mut pull, ..] = rows(lab, &large, false)?;
    pull.goals.push(at_most(&pull, "gorae", 1500.0));
    pull.goals.push(at_most(&pull, OVERLAYFS, 2500.0));
    pull.goal_ratio("docker", "gorae", Bound::AtLeast(1.0));
    Ok(vec![pull])
}

fn at_most(row: &Row, subject: &str, limit: f64) -> Goal {
    let met = row.median(subject).map(|found| found <= limit);
    Goal::new(&format!("{subject} at most {limit} ms"), met)
}

/// Pulls and removes in turns, with the floors beside.
fn rows(lab: &Lab<'_>, large: &Large, is_gzip: bool) -> Result<[Row; 3]> {
    let image = lab.publish(large, "all")?;
    let engines = lab.engines();
    let mut pulls: Vec<Figure> = engines.iter().map(|one| Figure::new(one.name())).collect();
    let mut removals = [pulls.clone(), pulls.clone()];
    let mut others = [SKOPEO, TAR, FLOOR].map(Figure::new);
    for _ in 0..lab.bench.plan.long_rounds {
        for (number, engine) in engines.iter().enumerate() {
            let removals = removals.each_mut().map(|figures| &mut figures[number]);
            take_turn(engine, &image, &mut pulls[number], removals)?;
        }
        cold()?;
        others[0].samples.push(by_skopeo(lab, &image)?);
        if is_gzip {
            cold()?;
            others[1].samples.push(by_tar(lab, large)?);
        }
        cold()?;
        let folder = lab.scratch("floor")?;
        others[2].samples.push(floor::unpack(large, &folder)?);
    }
    lab.scratch("floor")?;
    pulls.extend(others.into_iter().filter(|other| !other.samples.is_empty()));
    let packing = if is_gzip { "gzip" } else { "zstd" };
    let pull = Row::new(
        &format!(
            "pull and unpack of 909 MB, 30,000 files, 5 {packing} layers, from a registry on loopback, caches dropped"
        ),
        Unit::Milliseconds,
        pulls,
    );
    let [told, gone] = removals;
    let remove = Row::new(
        "remove it, until the command has ended",
        Unit::Milliseconds,
        told,
    );
    let gone = Row::new(
        "remove it, until nothing of it is on the disk",
        Unit::Milliseconds,
        gone,
    );
    Ok([pull, remove, gone])
}

fn take_turn(
    engine: &Engine<'_>,
    image: &str,
    pull: &mut Figure,
    [told, disk]: [&mut Figure; 2],
) -> Result<()> {
    if pull.failure.is_some() {
        return Ok(());
    }
    cold()?;
    match engine
        .pull(image)
        .and_then(|took| Ok((took, engine.remove(image)?)))
    {
        Ok((took, removed)) => {
            pull.samples.push(took);
            told.samples.push(removed.told);
            disk.samples.push(removed.gone);
        }
        Err(error) if engine.name().starts_with("gorae") => return Err(error),
        Err(error) => pull.failure = Some(format!("{error:#}")),
    }
    Ok(())
}

fn by_skopeo(lab: &Lab<'_>, image: &str) -> Result<f64> {
    let folder = lab.scratch("skopeo")?;
    let seen = Peers::seen(&folder);
    let script = format!(
        "skopeo copy --quiet --src-tls-verify=false docker://{image} oci:{seen}/layout:all && umoci unpack --image {seen}/layout:all {seen}/bundle"
    );
    let took = one(&lab.peers.subject(SKOPEO, &["sh", "-c", &script]))?;
    lab.scratch("skopeo")?;
    Ok(took)
}

/// What GNU's programs take for the same layers from the disk, one after another.
fn by_tar(lab: &Lab<'_>, large: &Large) -> Result<f64> {
    let folder = lab.scratch("tar")?;
    let blobs = large.layout.join("blobs/sha256");
    let steps: Vec<String> = large
        .layers
        .iter()
        .map(|layer| {
            format!(
                "gzip -dc {} | tar -xC {}",
                word(&blobs.join(layer)),
                word(&folder)
            )
        })
        .collect();
    let took = one(&Subject {
        name: TAR,
        command: vec!["sh".to_owned(), "-c".to_owned(), steps.join(" && ")],
        place: Place::Here(Vec::new()),
    })?;
    lab.scratch("tar")?;
    Ok(took)
}
