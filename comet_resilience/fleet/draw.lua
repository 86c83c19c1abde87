-- Draws requests and tokens from budgets for a member, each at its own time.
--
-- KEYS     one for each budget, all in one slot of a cluster: a hash with "born", "at" (of the
--          latest draw), "behind" (how far the clock was ever set back), for requests and tokens
--          "<which>:paid", ":slices" and ":idle" (when nothing was paid for), and for each member
--          "m:<member>" -> "expires:serial"
-- ARGV     20 for each budget, in the same order:
--          member, ttl, serial, per, burst, unused, age, wants ("requests:tokens;..."), then for
--          requests and for tokens: total (0 for none), depth, kept_back, correction (of what was
--          sent up to age ago), and, as this member remembers them, for how long all is paid and
--          what the last period holds
--
-- Times are milliseconds of this server's clock; clients send and receive durations only. A draw is
-- spent, used or not, so a lost reply costs a part of the budget and never adds to it. Corrections
-- count once: a serial that was seen before corrects nothing.
--
-- The rules are those of `limits/budget.py`: a charge is paid for by the time that the budget needs
-- to earn it, and no period holds more than the budget. Requests without a burst need only the
-- first rule, which spaces them evenly. With a ttl of 0 the member leaves.

local AHEAD = 1000   -- how far ahead to draw; a member without draws may go beyond it once
local LEARN = 1500   -- after a restart members report what was drawn before
local SLICES = 128   -- of a period's memory
local IDLE = 250     -- shorter pauses are not remembered
local MOST = 2 ^ 42
local ROUNDING = 1e-9

local clock = redis.call('TIME')
local now  -- a budget's own time, which never goes back

local function number(text, low, high)
  local value = tonumber(text)
  if not value or value ~= value then return nil end
  return math.max(low, math.min(high, value))
end

-- Returns the meter of requests or of tokens; with a total of 0 it counts nothing.
local function meter(kept, which, per, burst, members, given)
  local total = number(given[1], 0, MOST) or 0
  local each = total > 0 and per * (1 + ROUNDING) / total or 0
  local paid = number(kept[which .. ':paid'], 0, MOST) or 0
  if paid > now + per * (2 + members) then paid = now end  -- no times of ours
  local self = {
    total = total, each = each, per = per, burst = burst, paid = paid, slices = {}, held = 0,
    depth = number(given[2], 0, total) or 0, kept_back = number(given[3], 0, MOST) or 0,
    is_spaced = which == 'requests' and burst == 0,
  }
  local from, to = string.match(kept[which .. ':idle'] or '', '^([%d.]+):([%d.]+)$')
  self.idle_from, self.idle_to = number(from, 0, now) or 0, number(to, 0, now) or 0
  for at, amount in string.gmatch(kept[which .. ':slices'] or '', '([%d.]+):([%d.]+)') do
    at, amount = number(at, 0, MOST), number(amount, 0, MOST)
    if at and amount and at + per > now and at < now + per * (2 + members) then
      self.slices[#self.slices + 1] = { at = at, amount = amount }
      self.held = self.held + amount
    end
  end
  return self
end

local function ready_at(self, amount)
  if self.total == 0 or amount == 0 then return now end
  if amount > self.total then return math.huge end
  local tolerance = self.burst * (1 + 2 * ROUNDING) - self.each
  local at = math.max(now, self.paid - math.max(0, tolerance, (self.depth - amount) * self.each))
  if self.is_spaced then return at end
  local over = self.held + math.min(self.total, amount + self.kept_back) - self.total
  for _, slice in ipairs(self.slices) do
    if over <= ROUNDING then break end
    over = over - slice.amount
    at = math.max(at, slice.at + self.per)
  end
  return at
end

local function remember(self, at, amount)
  self.held = self.held + amount
  local last = self.slices[#self.slices]
  if last and #self.slices > 1 and at - self.slices[#self.slices - 1].at < self.per / SLICES then
    last.at, last.amount = math.max(last.at, at), last.amount + amount
  else
    self.slices[#self.slices + 1] = { at = math.max(at, last and last.at or 0), amount = amount }
  end
end

local function charge(self, at, amount)
  if self.total == 0 or amount <= 0 then return end
  if math.min(at, now) - self.paid > IDLE then
    self.idle_from, self.idle_to = math.max(self.paid, now - self.per), math.min(at, now)
  end
  self.paid = math.max(at, self.paid) + amount * self.each
  remember(self, at, amount)
end

-- Corrects the cost of what was sent in the last `age` milliseconds.
local function correct(self, amount, age)
  if self.total == 0 or amount == 0 then return end
  if amount > 0 then
    -- Time believed idle since then was not: it pays for the correction.
    local idle = math.max(0, self.idle_to - math.max(self.idle_from, now - age))
    local paid_for = math.min(idle, amount * self.each)
    self.idle_from = self.idle_from + paid_for
    self.paid = math.max(self.paid, now - age) + amount * self.each - paid_for
    remember(self, now, amount)
    return
  end
  -- Only a debt that still stands can be reduced, not what was paid for long ago.
  if self.paid > now then self.paid = math.max(now, self.paid + amount * self.each) end
  for place = #self.slices, 1, -1 do
    local slice = self.slices[place]
    local less = math.min(slice.amount, -amount)
    slice.amount, self.held, amount = slice.amount - less, self.held - less, amount + less
  end
end

-- Sets the budget's own time. It goes on when the clock is set back, or all would wait that long.
local function set_time(kept)
  local behind = number(kept.behind, 0, MOST) or 0
  now = clock[1] * 1000 + clock[2] / 1000 + behind
  local ahead = math.max(0, (number(kept.at, 0, MOST) or 0) - now)
  now = now + ahead
  return behind + ahead
end

local function draw(arguments, key)
  local kept, members, rows = {}, 1, {}
  local entries = redis.call('HGETALL', key)
  local me = 'm:' .. arguments[1]
  local ttl = number(arguments[2], 0, MOST) or 0
  local serial = number(arguments[3], 0, 1e15) or 0
  local known, gone = 0, {}
  for place = 1, #entries, 2 do
    local name, value = entries[place], entries[place + 1]
    local part = string.sub(name, 1, 2) == 'm:' and rows or kept
    part[name] = value
  end
  local behind = set_time(kept)
  for name, value in pairs(rows) do
    local expires, seen = string.match(value, '^(%d+):(%d+)$')
    expires = tonumber(expires) or 0
    if name == me then
      known = tonumber(seen) or 0
    elseif expires <= now or expires > now + MOST / 2 then
      gone[#gone + 1] = name
    else
      members = members + 1
    end
  end
  if #gone > 0 then redis.call('HDEL', key, unpack(gone, 1, math.min(#gone, 1000))) end

  local per, burst = number(arguments[4], 1, MOST) or 60000, number(arguments[5], 0, MOST) or 0
  local age = number(arguments[7], 0, per) or 0
  local born = number(kept.born, 0, now) or now
  local meters = {}
  for place, which in ipairs({ 'requests', 'tokens' }) do
    local given = {}
    for n = 1, 6 do given[n] = arguments[8 + 6 * (place - 1) + n] end
    local one = meter(kept, which, per, burst, members, given)
    local ahead = number(given[5], 0, MOST) or 0
    if now - born < LEARN and ahead > 0 then one.paid = math.max(one.paid, now + ahead) end
    local held = number(given[6], 0, one.total) or 0
    if not kept.born and held > 0 then
      one.slices, one.held = { { at = now, amount = held } }, held
    end
    if serial > known then correct(one, number(given[4], -MOST, MOST) or 0, age) end
    meters[which] = one
  end
  local requests, tokens = meters.requests, meters.tokens

  -- In order, up to the horizon and to this member's part of it.
  local delays, taken = {}, 0
  local has_unused = arguments[6] ~= '0'
  for r, t in string.gmatch(arguments[8], '([%d.]+):([%d.]+)') do
    r, t = tonumber(r) or 0, tonumber(t) or 0
    local at = math.max(ready_at(requests, r), ready_at(tokens, t))
    local takes = math.max(r * requests.each, t * tokens.each)
    local is_first = #delays == 0
    if at == math.huge or (at > now + AHEAD and (has_unused or not is_first)) then break end
    if not is_first and taken + takes > AHEAD / members then break end
    charge(requests, at, r)
    charge(tokens, at, t)
    taken = taken + takes
    delays[#delays + 1] = string.format('%.3f', at - now)
  end

  local function text(slices)
    local texts = {}
    for _, slice in ipairs(slices) do
      if slice.amount > 0 then
        texts[#texts + 1] = string.format('%.3f:%.3f', slice.at, slice.amount)
      end
    end
    return table.concat(texts, ';')
  end
  local function idle(self)
    return string.format('%.3f:%.3f', self.idle_from, self.idle_to)
  end
  redis.call('HSET', key, 'born', string.format('%.3f', born),
             'at', string.format('%.3f', now), 'behind', string.format('%.3f', behind),
             'requests:paid', string.format('%.3f', requests.paid),
             'requests:slices', text(requests.slices), 'requests:idle', idle(requests),
             'tokens:paid', string.format('%.3f', tokens.paid),
             'tokens:slices', text(tokens.slices), 'tokens:idle', idle(tokens))
  if ttl == 0 then
    redis.call('HDEL', key, me)
  else
    redis.call('HSET', key, me, string.format('%.0f:%.0f', now + ttl, math.max(serial, known)))
  end
  local latest = math.max(requests.paid, tokens.paid, now)
  redis.call('PEXPIRE', key, string.format('%.0f', latest - now + per + 60000))
  return { table.concat(delays, ';'), members,
           string.format('%.3f', math.max(0, requests.paid - now)),
           string.format('%.3f', math.max(0, tokens.paid - now)),
           string.format('%.0f', math.max(0, requests.total - requests.held)),
           string.format('%.0f', math.max(0, tokens.total - tokens.held)) }
end

return batch(draw, 1, 20)
