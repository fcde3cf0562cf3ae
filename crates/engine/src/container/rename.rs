//! Renaming a container.

use crate::db::Table;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::names;

impl Engine {
    /// Gives a container another name.
    ///
    /// # Errors
    /// When the name is invalid, taken, or the container's own.
    pub async fn container_rename(&self, name: &str, new: &str) -> Result<()> {
        if new.is_empty() {
            return Err(Error::invalid("Neither old nor new names may be empty"));
        }
        let container = self.containers.get(name)?;
        let new = new.strip_prefix('/').unwrap_or(new);
        let refuse = |e: Error| e.context("Error when allocating new name");
        names::check(new).map_err(|_| refuse(names::invalid(&format!("/{new}"))))?;
        let _turn = container.lifecycle.lock().await;
        if container.name() == new {
            return Err(Error::invalid(
                "Renaming a container with the same name as its current name",
            ));
        }
        let old = self.containers.rename(&container, new).map_err(refuse)?;
        let record = container.record().clone();
        if let Some(connection) = &super::lock(&container.live).connection {
            self.networks.enter_names(&record, connection);
        }
        self.db
            .put(Table::Containers, record.id.as_str(), &record)
            .await?;
        self.container_event("rename", &container, &[("oldName", &format!("/{old}"))]);
        Ok(())
    }
}
