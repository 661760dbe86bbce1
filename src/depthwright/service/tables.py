"""The tables. `predictions` is the only truth about a prediction; everything else serves it."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    literal_column,
    text,
)

METADATA = MetaData()
# SQLite numbers rows by INTEGER only; PostgreSQL needs the wider type for millions of rows a day.
_NUMBER = BigInteger().with_variant(Integer, "sqlite")

PREDICTIONS = Table(
    "predictions",
    METADATA,
    Column("seq", _NUMBER, primary_key=True, autoincrement=True),  # the order of the queue
    Column("id", String(32), nullable=False, unique=True),
    Column("key_id", String(16), nullable=False),
    Column("model", String(120), nullable=False),
    Column("status", String(12), nullable=False),
    Column("input", JSON, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("finished_at", Float),
    Column(
        "source", JSON(none_as_null=True)
    ),  # where the control image comes from: {"url": ...}, {"upload": ...}, ... or the default's null
    Column(
        "base_url", String(200), nullable=False, server_default=""
    ),  # how the submitter reached this server
    Column("attempt", Integer, nullable=False, server_default="0"),  # the fence
    Column("strikes", Integer, nullable=False, server_default="0"),  # workers lost
    Column("owner", String(32)),
    Column("cancel_requested", Boolean, nullable=False, server_default=text("0")),
    Column("progress", JSON, nullable=False, server_default="{}"),
    Column("preview_wanted", Boolean, nullable=False, server_default=text("0")),
    Column("preview", LargeBinary),
    Column("outputs", JSON, nullable=False, server_default="[]"),
    Column("control", String(200)),
    Column("nsfw", JSON, nullable=False, server_default="[]"),
    Column("fidelity", JSON, nullable=False, server_default="[]"),
    Column("timings", JSON, nullable=False, server_default="{}"),
    Column("warnings", JSON, nullable=False, server_default="[]"),
    Column("error", Text, nullable=False, server_default=""),
    Column("code", Integer, nullable=False, server_default="0"),
    Column("model_version", String(80), nullable=False, server_default=""),
    Column("acceleration", JSON, nullable=False, server_default="{}"),
    Column("loras", JSON, nullable=False, server_default="[]"),
    Column("safety", JSON, nullable=False, server_default="{}"),
    Column("webhook_url", Text),
    Column("base64_output", Boolean, nullable=False, server_default=text("0")),
    Column("idempotency_key", String(255)),
    Column("digest", String(64), nullable=False, server_default=""),
)
# What waits or runs, with no parameter: SQLite takes a partial index only for a query that holds the index's own
# condition, and cannot know that of a value that is bound later. Every query that means such rows says so by this.
OPEN = PREDICTIONS.c.status.in_([literal_column("'created'"), literal_column("'processing'")])
# Small for ever: only rows that wait or run are in it, so claiming and counting cost the same at any age of the table.
Index(
    "predictions_open",
    PREDICTIONS.c.status,
    PREDICTIONS.c.seq,
    sqlite_where=text("status IN ('created', 'processing')"),
    postgresql_where=text("status IN ('created', 'processing')"),
)
Index("predictions_of_key", PREDICTIONS.c.key_id, PREDICTIONS.c.seq)
Index(
    "predictions_open_of_key",
    PREDICTIONS.c.key_id,
    sqlite_where=text("status IN ('created', 'processing')"),
    postgresql_where=text("status IN ('created', 'processing')"),
)
Index(
    "predictions_idempotency",
    PREDICTIONS.c.key_id,
    PREDICTIONS.c.idempotency_key,
    unique=True,
    sqlite_where=text("idempotency_key IS NOT NULL"),
    postgresql_where=text("idempotency_key IS NOT NULL"),
)
Index("predictions_finished", PREDICTIONS.c.finished_at)

KEYS = Table(
    "keys",
    METADATA,
    Column("id", String(16), primary_key=True),
    Column("name", String(120), nullable=False),
    Column("digest", String(64), nullable=False, unique=True),
    Column("webhook_secret", String(80), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("last_used_at", Float),
    Column("revoked_at", Float),
)

UPLOADS = Table(
    "uploads",
    METADATA,
    Column("id", String(64), primary_key=True),  # unguessable: it is the public name too
    Column("key_id", String(16), nullable=False),
    Column("ticket", String(64), unique=True),  # gone once it was used
    Column("filename", String(255), nullable=False),
    Column("content_type", String(80), nullable=False),
    Column("size", Integer, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("complete", Boolean, nullable=False, server_default=text("0")),
)
Index("uploads_created", UPLOADS.c.created_at)

DELIVERIES = Table(
    "deliveries",
    METADATA,
    Column("id", String(40), primary_key=True),  # the webhook-id: the same at every try
    Column("prediction_id", String(32), nullable=False),
    Column("key_id", String(16), nullable=False),
    Column("url", Text, nullable=False),
    Column("state", String(12), nullable=False),
    Column("tries", Integer, nullable=False, server_default="0"),
    Column("next_at", Float, nullable=False),
    Column("log", JSON, nullable=False, server_default="[]"),
    Column("created_at", Float, nullable=False),
)
Index("deliveries_due", DELIVERIES.c.state, DELIVERIES.c.next_at)
Index("deliveries_of", DELIVERIES.c.prediction_id)

WORKERS = Table(
    "workers",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column("state", String(12), nullable=False),
    Column("beat", Integer, nullable=False, server_default="0"),  # counts up while the worker lives
    Column("model_version", String(80), nullable=False, server_default=""),
    Column("image_checker", String(120), nullable=False, server_default=""),
    Column("started_at", Float, nullable=False),
)

# Rows are added and never changed: triggers refuse anything else, and each row's digest covers the one before.
AUDIT = Table(
    "audit",
    METADATA,
    Column("number", _NUMBER, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("key_id", String(16), nullable=False),
    Column("prediction_id", String(32), nullable=False),
    Column("subject", String(12), nullable=False),  # prompt, image: what was judged
    Column("category", String(40), nullable=False),
    Column("decision", String(12), nullable=False),  # refused, blacked, unchecked
    Column("prompt", Text, nullable=False),  # a keyed digest, or the words where the operator keeps them
    Column("pixels", JSON, nullable=False),  # of the pictures that were made, as their receipts have it
    Column("digest", String(64), nullable=False),
)

# Sums that outlive processes and rows: the metrics read them instead of counting millions of rows.
COUNTERS = Table(
    "counters",
    METADATA,
    Column("name", String(60), primary_key=True),
    Column("label", String(60), primary_key=True),
    Column("value", Float, nullable=False),
)
