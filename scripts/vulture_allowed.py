"""Names that look unused to vulture, and why each is not; `make check` reads this file."""

# backends/keystore.py: a field of a stored record
_.private_key

# backends/keycloak.py: what python-keycloak calls and reads
_.a_get_token
_.async_s

# backends/mongo.py: named in an annotation
_.AsyncIOMotorCollection

# backends/vault_session.py: read by requests
_.trust_env

# config.py: keys of the published file that are read and checked before their feature lands
_.access_token_enabled
_.auth
_.backup_count
_.cluster
_.hec_endpoint
_.legacy
_.loki
_.max_bytes
_.neo4j
_.nexus_mode
_.redirect_url
_.redirect_urls
_.security
_.sender
_.splunk_hec

# console/__main__.py: read by typer
_.obj

# console/login.py: called by http.server
_.do_GET
_.handle_timeout
_.log_message

# console/walk.py: called by html.parser
_.handle_endtag
_.handle_starttag

# engine/build.py: a parameter that the protocol of context managers fixes
_.trace

# engine/text.py: options of RE2
_.log_errors
_.max_mem
_.never_capture
_.never_nl

# files/bundle.py: asked by zipfile
_.writable

# files/model.py: fields of structs that are written to the wire
_.largest_chunk
_.resumable_identifier

# jobs/model.py: fields of structs that are written to the wire
_.ended_at

# networks/model.py: fields of structs that are written to the wire
_.network_name
_.node_ids
_.visible

# pipelines/model.py: fields of structs that are written to the wire
_.source_type

# pipelines/patterns.py: options of RE2
_.log_errors
_.max_mem

# pipelines/spool.py: a parameter that the protocol of context managers fixes
_.trace

# pipelines/take_in.py: fields of structs that are written to the wire
_.unmatched_examples

# records/model.py: fields of structs that are written to the wire
_.data_type
_.ignored_filters
_.message_attributes
_.message_id
_.node_id
_.should_relay
_.source_owner

# settings/model.py: published settings that are kept and shown; their features come later
_.allow_non_client_authenticated
_.alternative_url
_.anonymous_access
_.api_version
_.beacon_id
_.beacon_settings
_.color_setting
_.create_date_time
_.default_budget
_.default_ttl
_.discovery_settings
_.endpoints
_.logo
_.medicine
_.nexus_enabled
_.organization_id
_.seed_color
_.theme_mode
_.update_date_time
_.welcome_url

# sources/building.py: an option of sqlite3
_.arraysize

# pipelines/compressed.py: called by the standard library's reader
_.readable
_.readinto

# sources/points.py: the stages of a run
_.STAGES

# users/model.py: fields of structs that are written to the wire
_.initial_password

# users/store.py: fields of stored documents, matched by their wire name
_.subject_index
_.username_index

# web/intake.py: what Quart calls and reads
_.asgi_http_class
_.body_class
_.handle_messages
_.request_class

# web/routes.py: fields of structs that are written to the wire
_.milliseconds
_.owner_address
_.ready
_.scrape

# tests/support/sink.py: called by aiosmtpd
_.handle_DATA
_.handle_RCPT

# child.py: what the event loop calls
_.data_received
_.connection_lost
