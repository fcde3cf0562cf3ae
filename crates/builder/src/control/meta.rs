//! What sources resolve to, for front ends.

use bollard_buildkit_proto::moby::buildkit::v1::frontend::{
    ResolveImageConfigRequest, ResolveImageConfigResponse, ResolveSourceImageResponse,
    ResolveSourceMetaRequest, ResolveSourceMetaResponse,
};

use bollard_buildkit_proto::moby::buildkit::v1::sourcepolicy::Policy;

use super::bridge::Bridge;
use crate::error::{Error, Result};
use crate::llb::pb;
use crate::policy::Policies;
use crate::source::image::{self, ConfigRequest, ResolvedConfig};
use crate::source::oci_layout;

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

/// A source, or what stands in for it by these policies and those of the build.
fn replaced(
    bridge: &Bridge,
    mut source: pb::SourceOp,
    policies: Vec<Policy>,
) -> Result<pb::SourceOp> {
    let policies = bridge.job.policies.and(&Policies::read(policies)?);
    policies.apply(&mut source)?;
    Ok(source)
}

/// Finds the configuration of an image in a layout of the client's.
async fn layout(
    bridge: &Bridge,
    source: pb::SourceOp,
    wanted: Option<&pb::Platform>,
) -> Result<ResolveSourceMetaResponse> {
    let platform = image::platform_of(wanted);
    let mut asked = oci_layout::of_identifier(&source.identifier, platform)?;
    let attr = |name: &str| source.attrs.get(name).cloned().unwrap_or_default();
    asked.session = attr("oci.session");
    if !attr("oci.store").is_empty() {
        asked.store = attr("oci.store");
    }
    let job = &bridge.job;
    let found = oci_layout::find(job, &job.sessions, &asked).await?;
    Ok(ResolveSourceMetaResponse {
        image: Some(ResolveSourceImageResponse {
            digest: found.digest.to_string(),
            config: found.config.to_vec(),
            attestation_chain: None,
        }),
        source: Some(source),
        ..ResolveSourceMetaResponse::default()
    })
}

/// Finds an image's configuration.
pub(super) async fn image_config(
    bridge: &Bridge,
    request: ResolveImageConfigRequest,
) -> Result<ResolveImageConfigResponse> {
    let wanted = request.platform.as_ref();
    let named: Result<oci::Reference, _> = request.r#ref.parse();
    let named = named.map_err(|error| Error::invalid(error.to_string()))?;
    let source = pb::SourceOp {
        identifier: format!("{IMAGE}{}", named.or_latest()),
        ..pb::SourceOp::default()
    };
    let source = replaced(bridge, source, request.source_policies)?;
    let name = source.identifier.strip_prefix(IMAGE);
    let name = name.ok_or_else(|| Error::invalid(format!("{} is no image", source.identifier)))?;
    let found = find(
        bridge,
        name,
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
    let source = request
        .source
        .ok_or_else(|| Error::invalid("a source is needed"))?;
    let source = replaced(bridge, source, request.source_policies)?;
    if source.identifier.starts_with(oci_layout::SCHEME) {
        return layout(bridge, source, request.platform.as_ref()).await;
    }
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
