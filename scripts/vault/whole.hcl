# What a process with all duties may do, and nothing else. Vault denies what no rule allows; the
# denials below stand here so that no other policy on the same login can give it back.
# ${KEYS} is how the names of our transit keys begin: the prefix with / as .- and -- at its end.

# The login itself: look at it, prolong it, give it back.
path "auth/token/lookup-self" { capabilities = ["read"] }
path "auth/token/renew-self"  { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }

# Secrets under our prefix. `delete` on metadata destroys all versions of one.
path "${KV2}/data/${PREFIX}*"     { capabilities = ["create", "read", "update"] }
path "${KV2}/metadata/${PREFIX}*" { capabilities = ["delete"] }

# Keys that encrypt: made, rotated, their old versions retired. Never exported, backed up, deleted
# or trimmed: only these parameters may be sent at all.
path "${TRANSIT}/keys/${KEYS}key-*" {
  capabilities       = ["read", "update"]
  allowed_parameters = { "type" = ["aes256-gcm96"], "min_decryption_version" = [] }
}
path "${TRANSIT}/encrypt/${KEYS}key-*" { capabilities = ["update"] }
path "${TRANSIT}/decrypt/${KEYS}key-*" { capabilities = ["update"] }

# Keys of blind indices: made once, used for digests. Vault cannot tell making one from
# rotating it by a rule; rotated, it gives the same digests, since we ask for those of version 1.
path "${TRANSIT}/keys/${KEYS}index-*" {
  capabilities       = ["read", "update"]
  allowed_parameters = { "type" = ["aes256-gcm96"] }
}
path "${TRANSIT}/hmac/${KEYS}index-*" { capabilities = ["update"] }

# One key pair a person: made when their login is permitted, deleted when it is revoked.
path "${TRANSIT}/keys/${KEYS}user-*" {
  capabilities       = ["read", "update", "delete"]
  allowed_parameters = { "type" = ["rsa-4096"], "deletion_allowed" = [] }
}

path "${TRANSIT}/export/*"  { capabilities = ["deny"] }
path "${TRANSIT}/backup/*"  { capabilities = ["deny"] }
path "${TRANSIT}/restore/*" { capabilities = ["deny"] }
