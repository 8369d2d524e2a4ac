# What a process that only answers questions may do (CV3_DUTIES of query, record-compiler and
# exporter): it reads secrets and knows people, but makes, rotates and deletes no key and writes no
# secret. See whole.hcl for the names.

path "auth/token/lookup-self" { capabilities = ["read"] }
path "auth/token/renew-self"  { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }

path "${KV2}/data/${PREFIX}*" { capabilities = ["read"] }

path "${TRANSIT}/keys/${KEYS}key-*"     { capabilities = ["read"] }
path "${TRANSIT}/keys/${KEYS}index-*"   { capabilities = ["read"] }
path "${TRANSIT}/keys/${KEYS}user-*"    { capabilities = ["read"] }
path "${TRANSIT}/encrypt/${KEYS}key-*"  { capabilities = ["update"] }
path "${TRANSIT}/decrypt/${KEYS}key-*"  { capabilities = ["update"] }
path "${TRANSIT}/hmac/${KEYS}index-*"   { capabilities = ["update"] }

path "${TRANSIT}/export/*"  { capabilities = ["deny"] }
path "${TRANSIT}/backup/*"  { capabilities = ["deny"] }
path "${TRANSIT}/restore/*" { capabilities = ["deny"] }
