//! How an image came to be.

use api::image::HistoryItem;
use jiff::Timestamp;
use oci::Platform;

use super::familiar;
use crate::engine::Engine;
use crate::error::Result;

impl Engine {
    /// Tells an image's steps, last first.
    ///
    /// # Errors
    /// When there is no such image, or it is for another platform.
    pub fn image_history(
        &self,
        name: &str,
        platform: Option<&Platform>,
    ) -> Result<Vec<HistoryItem>> {
        let image = self.images.for_platform(name, platform)?;
        let mut sizes = image.record.layers.iter().map(|layer| layer.size);
        let mut items: Vec<HistoryItem> = image
            .config
            .history
            .iter()
            .map(|step| HistoryItem {
                comment: step.comment.clone().unwrap_or_default(),
                created: step
                    .created
                    .as_ref()
                    .and_then(|t| t.parse::<Timestamp>().ok())
                    .map_or(0, Timestamp::as_second),
                created_by: step.created_by.clone().unwrap_or_default(),
                id: "<missing>".to_owned(),
                // only steps that made a layer have a size
                size: if step.empty_layer {
                    0
                } else {
                    i64::try_from(sizes.next().unwrap_or(0)).unwrap_or(i64::MAX)
                },
                tags: None,
            })
            .collect();
        // layers that no step accounts for
        items.extend(sizes.map(|size| HistoryItem {
            id: "<missing>".to_owned(),
            size: i64::try_from(size).unwrap_or(i64::MAX),
            ..HistoryItem::default()
        }));
        items.reverse();
        if let Some(first) = items.first_mut() {
            first.id = image.id.to_string();
            first.tags = Some(familiar(&image.record.tags)).filter(|tags| !tags.is_empty());
        }
        Ok(items)
    }
}
