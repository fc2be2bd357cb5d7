"""The agent: a model that is handed what is remembered, answers, and remembers what was said."""

from mnemic.agent.agent import MemoryAgent
from mnemic.agent.reply import Reply, ToolUse, Usage
from mnemic.agent.streams import AsyncReplyStream, ReplyStream

__all__ = ["AsyncReplyStream", "MemoryAgent", "Reply", "ReplyStream", "ToolUse", "Usage"]
