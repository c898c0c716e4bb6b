"""What can happen to an instance of a model."""

CREATE = "create"
UPDATE = "update"
DELETE = "delete"
