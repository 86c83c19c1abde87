-- Renews a member's shares of a fleet's limits, one scope after the other, and commits new limits
-- unless another member was faster.
--
-- KEYS     two for each scope, all in one slot of a cluster:
--          hash: member -> "expires:in_use:want:held:share:since:epoch:rate"
--          hash: limit, version, epoch, born, state
-- ARGV     13 for each scope, in the same order:
--          member, in_use, want, share, epoch, rate, ttl, learn, limit,
--          version, new_limit, new_epoch, new_state   (the last four: a commit, or "" for none)
--
-- Times are milliseconds of this server's clock; clients send and receive durations only. With a
-- ttl of 0 the member leaves. The script is idempotent, because a reply may be lost.
--
-- A share is never raised above what the others leave, so the sum of what is held never exceeds
-- the limit, in whatever order members renew. A member whose share is lowered holds the old one
-- until its next renewal: until then it may not know.

local TURN = 1000   -- how long a share lasts where there are more members than slots
local MOST = 1000000
local LONGEST = 600000

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function whole(text, most)
  local number = tonumber(text)
  if not number or number ~= number then return nil end
  return math.max(0, math.min(most, math.floor(number)))
end

-- Returns whether an entry is valid; one that ends too late is from before the clock was set back.
local function lasts(expires)
  return expires and expires > now and expires <= now + LONGEST
end

local function renew(arguments, members_key, limit_key)
  local me = arguments[1]
  local ttl = whole(arguments[7], LONGEST) or 0
  if ttl == 0 then
    redis.call('HDEL', members_key, me)
    return {}
  end

  -- The fleet's limit. If lost or damaged, it starts again with what this member remembers.
  local kept = redis.call('HMGET', limit_key, 'limit', 'version', 'epoch', 'born', 'state')
  local limit, version = whole(kept[1], MOST), whole(kept[2], 1e15)
  local epoch, born, state = whole(kept[3], 1e15), whole(kept[4], 1e15), kept[5]
  if not (limit and version and epoch and born and state) or version == 1e15 then
    limit, version, epoch, born, state = whole(arguments[9], MOST) or 1, now, 0, now, ''
    redis.call('HSET', limit_key, 'limit', limit, 'version', version, 'epoch', epoch,
               'born', born, 'state', state)
  end

  local committed = 0
  if arguments[10] ~= '' and tonumber(arguments[10]) == version then
    limit, epoch = whole(arguments[11], MOST) or limit, whole(arguments[12], 1e15) or epoch
    state = arguments[13]
    version, committed = version + 1, 1
    redis.call('HSET', limit_key, 'limit', limit, 'version', version, 'epoch', epoch,
               'state', state)
  end

  -- The members. Expired and malformed entries are removed.
  local mine = {
    name = me, in_use = whole(arguments[2], MOST) or 0, want = whole(arguments[3], MOST) or 0,
    share = whole(arguments[4], MOST) or 0, since = now, epoch = whole(arguments[5], 1e15) or 0,
    rate = tonumber(arguments[6]) or 0,
  }
  local members, others_in_use, others_hold, others_want, rate, lagging = { mine }, 0, 0, 0, 0, 0
  local known = false
  local entries = redis.call('HGETALL', members_key)
  for i = 1, #entries, 2 do
    local name = entries[i]
    local expires, in_use, want, held, share, since, seen, sends =
      string.match(entries[i + 1], '^(%d+):(%d+):(%d+):(%d+):(%d+):(%d+):(%d+):([%d.]+)$')
    expires = tonumber(expires)
    if name == me then
      known = lasts(expires)
      if since and (tonumber(share) > 0) == (mine.share > 0) then
        mine.since = math.min(now, tonumber(since))
      end
    elseif not lasts(expires) then
      redis.call('HDEL', members_key, name)
    else
      local other = {
        name = name, in_use = whole(in_use, MOST), want = whole(want, MOST),
        share = whole(share, MOST), since = math.min(now, tonumber(since)),
      }
      members[#members + 1] = other
      -- A member that has missed several renewals may be dead, with nothing in flight any more.
      if expires - now > ttl / 2 then others_in_use = others_in_use + other.in_use end
      others_hold = others_hold + whole(held, MOST)
      others_want = others_want + other.want
      rate = rate + math.min(tonumber(sends) or 0, MOST)
      if tonumber(seen) < epoch then lagging = lagging + 1 end
    end
  end

  -- Max-min fairness in whole slots: each member gets up to a level, and some of those that want
  -- more one extra slot, which they keep; where members outnumber slots they take turns.
  local function fair_share()
    table.sort(members, function(a, b) return a.want < b.want end)
    local left, level, extra = limit, nil, 0
    for i, member in ipairs(members) do
      local rest = #members - i + 1
      local each = math.floor(left / rest)
      if member.want > each then
        level, extra = each, left - each * rest
        break
      end
      left = left - member.want
    end
    if not level then  -- enough for all: a part of the rest in advance
      return mine.want + math.min(math.ceil((mine.want + 1) / 2), math.floor(left / #members))
    end
    if mine.want <= level then return mine.want end
    local function place(member)
      if level > 0 then return member.share > level and 0 or 1 end
      if member.share == 0 then return 1 end
      return now - member.since < TURN and 0 or 2
    end
    local my_place, before = place(mine), 0
    for _, member in ipairs(members) do
      if member ~= mine and member.want > level then
        local theirs = place(member)
        if theirs < my_place or (theirs == my_place and (member.since < mine.since
            or (member.since == mine.since and member.name < me))) then
          before = before + 1
        end
      end
    end
    return level + (before < extra and 1 or 0)
  end

  -- All members have expired, as after a long outage of this server or a jump of its clock: they
  -- come back one by one and keep their former shares. The first one must not take everything.
  if born > now or (not known and #members == 1 and mine.share > 0) then
    born = now
    redis.call('HSET', limit_key, 'born', born)
  end

  local learning = now - born < (whole(arguments[8], LONGEST) or 0)
  local claim = math.max(mine.share, mine.in_use, math.min(1, mine.want))
  local share = learning and claim or fair_share()
  share = math.max(0, math.min(share, limit - others_hold))
  if (share > 0) ~= (mine.share > 0) then mine.since = now end

  local entry = string.format('%.0f:%.0f:%.0f:%.0f:%.0f:%.0f:%.0f:%.3f', now + ttl, mine.in_use,
                              mine.want, math.max(share, mine.share, mine.in_use), share,
                              mine.since, epoch, math.max(0, mine.rate))
  redis.call('HSET', members_key, me, entry)
  redis.call('PEXPIRE', members_key, 20 * ttl)
  redis.call('PEXPIRE', limit_key, 20 * ttl)

  local contended = others_want + mine.want > limit and 1 or 0
  return { share, limit, string.format('%.0f', version), string.format('%.0f', epoch), #members,
           others_in_use, lagging, string.format('%.3f', rate), string.format('%.0f', now),
           committed, contended, state }
end

return batch(renew, 2, 13)
