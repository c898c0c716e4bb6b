"""Session backends for SESSION_ENGINE and CHANNEL_SESSION_ENGINE."""
