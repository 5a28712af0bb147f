"""Running ASGI applications and coroutines: asyncio and the reactor in one thread, with one poller."""
