-- What wrk asks: the paths it is given, in turn; each thread begins at another one. At the end a line of JSON for
-- api_load.py, which starts it.

local number = 0

function setup(thread)
  thread:set("first", number * 37)
  number = number + 1
end

function init(args)
  paths = args
  turn = first
end

function request()
  turn = turn % #paths + 1
  return wrk.format("GET", paths[turn])
end

function done(summary, latency, requests)
  local errors = summary.errors
  local found = {
    requests = summary.requests,
    seconds = summary.duration / 1e6,
    p50_ms = latency:percentile(50) / 1e3,
    p99_ms = latency:percentile(99) / 1e3,
    most_ms = latency.max / 1e3,
    refused = errors.status,
    broken = errors.connect + errors.read + errors.write + errors.timeout,
  }
  local members = {}
  for name, value in pairs(found) do
    members[#members + 1] = string.format('"%s": %.3f', name, value)
  end
  print("{" .. table.concat(members, ", ") .. "}")
end
