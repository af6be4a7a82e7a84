"""The whole system on one machine, from packages alone: real Kafka, MongoDB and SMTP servers, and the five services."""
