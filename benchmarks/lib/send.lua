-- Send the bytes of a file as they are, and report in JSON.
--
-- The bytes are the workload's: one request or a pipeline of them, with or without bodies.  Returning them from
-- wrk.format, rather than defining request(), keeps wrk in its fast path: it fetches the bytes once and never enters Lua
-- again while it measures.  wrk counts for itself how many requests they hold, and waits for as many responses.

function init(args)
   local file = assert(io.open(args[1], "rb"))
   local bytes = file:read("*a")
   file:close()
   wrk.format = function() return bytes end
end

-- Times are microseconds.
function done(summary, latency, requests)
   local errors = summary.errors
   io.write(string.format(
      '{"requests": %d, "duration": %d, "bytes": %d, "p50": %d, "p99": %d, ' ..
      '"connect": %d, "read": %d, "write": %d, "timeout": %d, "status": %d}\n',
      summary.requests, summary.duration, summary.bytes, latency:percentile(50), latency:percentile(99),
      errors.connect, errors.read, errors.write, errors.timeout, errors.status))
end
