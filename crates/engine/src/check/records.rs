//! The images in the database against those in memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use api::check::Finding;
use serde_json::Value;

use super::finding;
use crate::db::{Change, Table};
use crate::engine::Engine;
use crate::error::{Result, Step};
use crate::image::Image;

/// How an image's record on the disk differs from the one in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Difference {
    /// The database lacks it.
    Lacking,
    /// The database has another one.
    Other,
    /// Only the database has it.
    Extra,
}

impl Engine {
    /// Compares the images' records; the engine works with those in memory, so they are right.
    pub(super) async fn check_records(self: &Arc<Self>, repair: bool) -> Result<Vec<Finding>> {
        let _order = self.images.order().await;
        let disk = self.db.load::<Value>(Table::Images)?;
        let all = self.images.all();
        let mut memory = HashMap::new();
        for image in &all {
            let value = serde_json::to_value(&image.record).step(|| "write an image's record")?;
            memory.insert(image.id.to_string(), value);
        }
        let mut findings = Vec::new();
        for (key, difference) in differences(&memory, disk) {
            let mended = if repair {
                let image = all.iter().find(|image| image.id.to_string() == key);
                Some(self.write_record(&key, image).await)
            } else {
                None
            };
            let (problem, action) = match difference {
                Difference::Lacking => ("the database does not know the image", "write it"),
                Difference::Other => ("the database has another record of the image", "write it"),
                Difference::Extra => ("only the database knows the image", "remove its record"),
            };
            let mend = mended.map(|mended| move || mended);
            findings.push(finding(("record", &key), problem, action, mend));
        }
        Ok(findings)
    }

    async fn write_record(&self, key: &str, image: Option<&Arc<Image>>) -> Result<()> {
        let change = match image {
            Some(image) => Change::put(Table::Images, key, &image.record)?,
            None => Change::remove(Table::Images, key),
        };
        self.db.begin(vec![change]).await?.wait().await
    }
}

fn differences(
    memory: &HashMap<String, Value>,
    disk: Vec<(String, Value)>,
) -> BTreeMap<String, Difference> {
    let mut found: BTreeMap<String, Difference> = memory
        .keys()
        .map(|key| (key.clone(), Difference::Lacking))
        .collect();
    for (key, value) in disk {
        match memory.get(&key) {
            Some(own) if *own == value => drop(found.remove(&key)),
            Some(_) => drop(found.insert(key, Difference::Other)),
            None => drop(found.insert(key, Difference::Extra)),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::CheckRequest;
    use crate::scene::{import, with_engine};

    /// What a write that failed or a person with a tool may have made of the database.
    #[test]
    fn the_database_is_written_anew_from_memory() {
        with_engine(
            |_| {},
            async |engine| {
                let (one, two) = (import(engine, "one").await, import(engine, "two").await);
                let stranger = "sha256:".to_owned() + &"0".repeat(64);
                let (lost, other) = (one.to_string(), two.to_string());
                let record = engine.images.by_id(&one).unwrap();
                let changes = vec![
                    Change::remove(Table::Images, &lost),
                    Change::put(Table::Images, &other, &record.record).unwrap(),
                    Change::put(Table::Images, &stranger, &record.record).unwrap(),
                ];
                engine
                    .db
                    .begin(changes)
                    .await
                    .unwrap()
                    .wait()
                    .await
                    .unwrap();
                let expect = [
                    (stranger, "only the database knows the image"),
                    (lost, "the database does not know the image"),
                    (other, "the database has another record of the image"),
                ];
                for repair in [false, true] {
                    let request = CheckRequest {
                        repair,
                        deep: false,
                    };
                    let report = engine.system_check(request).await.unwrap();
                    for (object, problem) in &expect {
                        let mut found = report.findings.iter();
                        let found = found.find(|f| f.object == *object).unwrap();
                        assert_eq!(
                            (found.kind.as_str(), found.problem.as_str()),
                            ("record", *problem)
                        );
                        assert_eq!(found.repaired, repair);
                    }
                    assert_eq!(report.findings.len(), expect.len(), "{report:?}");
                }
                let request = CheckRequest {
                    repair: false,
                    deep: true,
                };
                let report = engine.system_check(request).await.unwrap();
                assert!(report.findings.is_empty(), "{report:?}");
                // what the next engine will find
                assert_eq!(engine.db.load::<Value>(Table::Images).unwrap().len(), 2);
            },
        );
    }

    #[test]
    fn records_that_differ() {
        let row = |key: &str, value: i32| (key.to_owned(), Value::from(value));
        let memory = HashMap::from([row("same", 1), row("lost", 2), row("old", 3)]);
        let disk = vec![row("same", 1), row("old", 4), row("extra", 5)];
        let found = differences(&memory, disk);
        let expect = [
            ("extra", Difference::Extra),
            ("lost", Difference::Lacking),
            ("old", Difference::Other),
        ];
        let found: Vec<_> = found
            .iter()
            .map(|(key, found)| (key.as_str(), *found))
            .collect();
        assert_eq!(found, expect);
    }
}
