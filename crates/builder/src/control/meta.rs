//! What sources resolve to, for front ends.

use bollard_buildkit_proto::moby::buildkit::v1::frontend::{
    ResolveImageConfigRequest, ResolveImageConfigResponse, ResolveSourceImageResponse,
    ResolveSourceMetaRequest, ResolveSourceMetaResponse,
};

use super::bridge::Bridge;
use crate::error::{Error, Result};
use crate::llb::pb;
use crate::source::image::{self, ConfigRequest, ResolvedConfig};

/// The scheme of images.
const IMAGE: &str = "docker-image://";

fn platform(platform: &pb::Platform) -> oci::Platform {
    let given = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    oci::Platform {
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
        variant: given(&platform.variant),
        os_version: given(&platform.os_version),
    }
}

async fn find(
    bridge: &Bridge,
    name: &str,
    wanted: Option<&pb::Platform>,
    mode: &str,
    log_name: String,
) -> Result<ResolvedConfig> {
    let request = ConfigRequest {
        name: name.to_owned(),
        platform: wanted.map(platform),
        mode: image::mode(mode)?,
        log_name,
    };
    image::resolve_config(&bridge.job, &request).await
}

/// Finds an image's configuration.
pub(super) async fn image_config(
    bridge: &Bridge,
    request: ResolveImageConfigRequest,
) -> Result<ResolveImageConfigResponse> {
    if !request.source_policies.is_empty() {
        return Err(Error::not_implemented("source policies are not supported"));
    }
    let wanted = request.platform.as_ref();
    let found = find(
        bridge,
        &request.r#ref,
        wanted,
        &request.resolve_mode,
        request.log_name,
    )
    .await?;
    Ok(ResolveImageConfigResponse {
        digest: found
            .digest
            .map(|digest| digest.to_string())
            .unwrap_or_default(),
        config: found.config.to_vec(),
        r#ref: found.name,
    })
}

/// Finds what a source resolves to. Of those that are no images nothing but their own words is told.
pub(super) async fn source(
    bridge: &Bridge,
    request: ResolveSourceMetaRequest,
) -> Result<ResolveSourceMetaResponse> {
    if !request.source_policies.is_empty() {
        return Err(Error::not_implemented("source policies are not supported"));
    }
    let source = request
        .source
        .ok_or_else(|| Error::invalid("a source is needed"))?;
    let Some(name) = source.identifier.strip_prefix(IMAGE) else {
        return Ok(ResolveSourceMetaResponse {
            source: Some(source),
            ..ResolveSourceMetaResponse::default()
        });
    };
    let wanted = request.platform.as_ref();
    let found = find(
        bridge,
        name,
        wanted,
        &request.resolve_mode,
        request.log_name,
    )
    .await?;
    let without = request.image.is_some_and(|image| image.no_config);
    Ok(ResolveSourceMetaResponse {
        image: Some(ResolveSourceImageResponse {
            digest: found
                .digest
                .map(|digest| digest.to_string())
                .unwrap_or_default(),
            config: if without {
                Vec::new()
            } else {
                found.config.to_vec()
            },
            attestation_chain: None,
        }),
        source: Some(source),
        ..ResolveSourceMetaResponse::default()
    })
}
