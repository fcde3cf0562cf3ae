//! Go's JSON rules, for structures that Go programs write and read.
//!
//! The `wire!` macro declares a structure by its JSON names and gives it the behaviour of Go's
//! `encoding/json`: field names match without regard to case, unknown fields are skipped, `null`
//! leaves any field at its zero value, absent fields are zero, and a field is left out of the
//! output only where it is declared `omitempty` and holds the zero value.
//!
//! A Go slice or map without `omitempty` is an `Option` here (`None` is `null`); with `omitempty`
//! nil and empty look the same on the wire, so it is a plain `Vec` or map. A Go pointer is an
//! `Option`.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A structure whose fields are read and written by Go's rules, alone or inside another one.
pub trait Wire: Default {
    /// Takes the value of `key` from `map` if the structure has such a field.
    fn accept<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error>;

    /// Writes every field that Go would write.
    fn emit<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error>;
}

/// What Go's `omitempty` leaves out.
pub trait Empty {
    /// Tells whether the value is Go's empty value.
    fn is_empty_value(&self) -> bool;
}

macro_rules! empty_when_zero {
    ($($ty:ty),*) => { $(impl Empty for $ty {
        fn is_empty_value(&self) -> bool {
            *self == <$ty>::default()
        }
    })* };
}
empty_when_zero!(bool, u8, u16, u32, u64, i32, i64, String);

impl<T> Empty for Option<T> {
    fn is_empty_value(&self) -> bool {
        self.is_none()
    }
}

impl<T> Empty for Vec<T> {
    fn is_empty_value(&self) -> bool {
        self.is_empty()
    }
}

impl<K, V> Empty for BTreeMap<K, V> {
    fn is_empty_value(&self) -> bool {
        self.is_empty()
    }
}

/// Reads a structure from a JSON object; `null` gives the zero value, as in Go.
pub(crate) fn read<'de, T: Wire, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_any(ObjectVisitor(PhantomData))
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Wire> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON object")
    }

    fn visit_unit<E>(self) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        let mut value = T::default();
        while let Some(key) = map.next_key::<String>()? {
            if !value.accept(&key, &mut map)? {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(value)
    }
}

/// Writes a structure as a JSON object.
pub(crate) fn write<T: Wire, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(None)?;
    value.emit(&mut map)?;
    map.end()
}

/// Declares wire structures; see the module's documentation.
macro_rules! wire {
    ($(
        $(#[$meta:meta])*
        pub struct $name:ident {
            $( $(#[$fmeta:meta])* $key:literal $([$flag:ident])? => $field:ident: $ty:ty, )*
        }
        $( flatten { $( $(#[$emeta:meta])* $embedded:ident: $ety:ty, )* } )?
    )*) => { $(
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct $name {
            $( $(#[$fmeta])* pub $field: $ty, )*
            $( $( $(#[$emeta])* pub $embedded: $ety, )* )?
        }

        impl $crate::wire::Wire for $name {
            fn accept<'de, A: serde::de::MapAccess<'de>>(
                &mut self,
                key: &str,
                map: &mut A,
            ) -> Result<bool, A::Error> {
                $( if key.eq_ignore_ascii_case($key) {
                    if let Some(value) = map.next_value::<Option<$ty>>()? {
                        self.$field = value;
                    }
                    return Ok(true);
                } )*
                $( $( if $crate::wire::Wire::accept(&mut self.$embedded, key, map)? {
                    return Ok(true);
                } )* )?
                Ok(false)
            }

            fn emit<M: serde::ser::SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
                $( $crate::wire::wire!(@emit map, $key, &self.$field $(, $flag)?); )*
                $( $( $crate::wire::Wire::emit(&self.$embedded, map)?; )* )?
                Ok(())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::wire::read(deserializer)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                $crate::wire::write(self, serializer)
            }
        }
    )* };
    (@emit $map:ident, $key:literal, $value:expr) => {
        $map.serialize_entry($key, $value)?
    };
    (@emit $map:ident, $key:literal, $value:expr, omitempty) => {
        if !$crate::wire::Empty::is_empty_value($value) {
            $map.serialize_entry($key, $value)?;
        }
    };
}
pub(crate) use wire;

/// Go's `struct{}`: an object without fields, as in the values of port and volume sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EmptyObject;

impl Wire for EmptyObject {
    fn accept<'de, A: MapAccess<'de>>(&mut self, _: &str, _: &mut A) -> Result<bool, A::Error> {
        Ok(false)
    }

    fn emit<M: SerializeMap>(&self, _: &mut M) -> Result<(), M::Error> {
        Ok(())
    }
}

impl<'de> Deserialize<'de> for EmptyObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read(deserializer)
    }
}

impl Serialize for EmptyObject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        write(self, serializer)
    }
}

/// A list of words that clients may also send as one string (Go's `strslice.StrSlice`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct StrSlice(pub Vec<String>);

impl std::ops::Deref for StrSlice {
    type Target = Vec<String>;

    fn deref(&self) -> &Vec<String> {
        &self.0
    }
}

impl From<Vec<String>> for StrSlice {
    fn from(words: Vec<String>) -> Self {
        Self(words)
    }
}

impl<'de> Deserialize<'de> for StrSlice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrSliceVisitor)
    }
}

struct StrSliceVisitor;

impl<'de> Visitor<'de> for StrSliceVisitor {
    type Value = StrSlice;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string or a list of strings")
    }

    fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<StrSlice, E> {
        Ok(StrSlice(vec![word.to_owned()]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut words: A) -> Result<StrSlice, A::Error> {
        let mut list = Vec::new();
        while let Some(word) = words.next_element::<Option<String>>()? {
            list.push(word.unwrap_or_default());
        }
        Ok(StrSlice(list))
    }
}

/// Bytes that Go writes as a base64 string (`[]byte`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl Empty for Bytes {
    fn is_empty_value(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use base64::Engine as _;
        serializer.serialize_str(&base64::engine::general_purpose::STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use base64::Engine as _;
        let text = String::deserialize(deserializer)?;
        base64::engine::general_purpose::STANDARD
            .decode(text)
            .map(Self)
            .map_err(|error| D::Error::custom(format_args!("invalid base64: {error}")))
    }
}

#[cfg(test)]
#[expect(
    unreachable_pub,
    reason = "the macro declares structures for other crates"
)]
mod tests {
    use super::*;

    wire! {
        /// A test structure.
        pub struct Sample {
            /// A string.
            "Name" => name: String,
            /// An optional number.
            "Count" [omitempty] => count: i64,
            /// A slice.
            "List" => list: Option<Vec<String>>,
            /// Words.
            "Cmd" => cmd: Option<StrSlice>,
        }
        flatten {
            /// Embedded.
            inner: Inner,
        }

        /// An embedded test structure.
        pub struct Inner {
            /// A pointer.
            "Limit" => limit: Option<i64>,
        }
    }

    fn check(input: &str, output: &str) {
        let value: Sample = serde_json::from_str(input).unwrap();
        assert_eq!(serde_json::to_string(&value).unwrap(), output, "{input}");
    }

    #[test]
    fn follows_gos_rules() {
        let zero = r#"{"Name":"","List":null,"Cmd":null,"Limit":null}"#;
        check("{}", zero);
        check("null", zero);
        check(
            r#"{"Name":null,"Count":null,"List":null,"Cmd":null,"Limit":null}"#,
            zero,
        );
        check(r#"{"Unknown":{"a":[1]},"x":null}"#, zero);
        check(
            r#"{"name":"a","COUNT":3,"list":[],"cmd":"x y","limit":0}"#,
            r#"{"Name":"a","Count":3,"List":[],"Cmd":["x y"],"Limit":0}"#,
        );
    }

    #[test]
    fn refuses_wrong_types() {
        for input in [
            r#"{"Name":1}"#,
            r#"{"Count":"1"}"#,
            r#"{"Cmd":1}"#,
            "[]",
            r#"{"Limit":1.5}"#,
        ] {
            assert!(serde_json::from_str::<Sample>(input).is_err(), "{input}");
        }
    }
}
