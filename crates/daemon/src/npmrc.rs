//! The registries the user's npm is configured with.
