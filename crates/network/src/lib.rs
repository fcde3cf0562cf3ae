//! Bridge and veth by netlink, nftables by netlink, address management, published ports.
#![forbid(unsafe_code)]
