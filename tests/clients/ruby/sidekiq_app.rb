# Sidekiq as anybody would use it: ruby sidekiq_app.rb ROLE URL [OPTIONS as JSON]
# work: run jobs until SIGTERM; produce: enqueue of everything; send: enqueue what the options say
require "json"
require "sidekiq"
require "sidekiq/api"
require "active_job"

ROLE, ADDRESS, TEXT = ARGV
OPTIONS = {"rounds" => 2, "concurrency" => 1, "fetch" => "basic"}.merge(JSON.parse(TEXT || "{}"))
REDIS = OPTIONS["namespace"] ? {url: ADDRESS, namespace: OPTIONS["namespace"]} : {url: ADDRESS}
require "redis-namespace" if OPTIONS["namespace"]
OUT = $stdout.dup
OUT.sync = true
# Sidekiq logs there.
$stdout.reopen($stderr)

def now = Process.clock_gettime(Process::CLOCK_REALTIME, :microsecond)

def say(said) = OUT.write("#{JSON.generate(said)}\n")

# What a server's middleware sees is the whole job.
class Tells
  def call(_worker, job, _queue)
    inner = job["args"][0]
    name = job["wrapped"] || inner["kind"]
    said = {id: inner.is_a?(Hash) && inner["job_id"] || job["jid"], name: name, carried: job["traceparent"] || ""}
    first = now
    say(said.merge(begin: first)) if name == "slow"
    begin
      value = yield
      say(said.merge(begin: first, end: now, value: value.is_a?(String) || value.is_a?(Integer) ? value : nil))
      value
    rescue Exception => error
      say(said.merge(begin: first, end: now, error: error.class.name))
      raise
    end
  end
end

class Mailer
  include Sidekiq::Worker
  sidekiq_options queue: "mails", retry: 5
  sidekiq_retry_in { 1 }

  def perform(job)
    case job["kind"]
    when "slow" then sleep(job["ms"] / 1000.0) unless job["once"] && OPTIONS["second"]
    when "flaky" then raise KeyError, "secret" if failed < job.fetch("times", 2)
    when "broken", "gone" then raise RangeError, "secret"
    when "nest" then Mailer.perform_async({"kind" => "add", "n" => job["n"] * 10})
    end
    job.fetch("n", 0) + 1
  end

  def failed = Redis.new(url: ADDRESS).incr("tried:#{jid}") - 1
end

class Patient < ActiveJob::Base
  queue_as :mails
  retry_on ArgumentError, wait: 0, attempts: 3

  def perform(_note)
    raise ArgumentError, "secret" if executions < 2
  end
end

ActiveJob::Base.queue_adapter = :sidekiq
ActiveJob::Base.logger = Logger.new($stderr)

def produce
  OPTIONS["rounds"].times do |n|
    Mailer.perform_async({"kind" => "add", "n" => n, "note" => "private"})
    Mailer.perform_async({"kind" => "flaky", "n" => n, "times" => 1})
    Mailer.set(retry: 0).perform_async({"kind" => "broken"})
    Mailer.set(retry: false).perform_async({"kind" => "gone"})
    Mailer.perform_in(1, {"kind" => "later", "n" => n})
    Sidekiq::Client.push_bulk("class" => Mailer, "args" => [1, 2].map { |two| [{"kind" => "add", "n" => two}] })
    Mailer.perform_async({"kind" => "nest", "n" => n})
    Patient.perform_later("private")
  end
  say(enqueued: true)
end

def send_jobs
  OPTIONS["jobs"].each do |kind, data, more|
    Mailer.set((more || {}).transform_keys(&:to_sym)).perform_async({"kind" => kind, **data})
  end
end

def work
  # The program is the application that Sidekiq is to load.
  $LOADED_FEATURES << File.expand_path(__FILE__)
  ARGV.replace(["-r", File.expand_path(__FILE__), "-c", OPTIONS["concurrency"].to_s, "-q", "mails", "-q", "low", "-t", "1"])
  Sidekiq::CLI.instance.parse
  Sidekiq.configure_server do |config|
    config.redis = REDIS
    config.server_middleware { |chain| chain.add(Tells) }
    config.logger = Logger.new($stderr)
    config.on(:startup) { say(ready: true) }
    # Jobs that are due are looked for each second, not each quarter of a minute.
    config.options[:poll_interval_average] = 1
    reliable(config) unless OPTIONS["fetch"] == "basic"
  end
  Sidekiq::CLI.instance.run
end

def reliable(config)
  require "sidekiq-reliable-fetch"
  config.options[:semi_reliable_fetch] = OPTIONS["fetch"] == "semi"
  config.options[:cleanup_interval] = 1
  config.options[:lease_interval] = 0
  Sidekiq::ReliableFetch.setup_reliable_fetch!(config)
end

Sidekiq.configure_client { |config| config.redis = REDIS }
case ROLE
when "work"
  require "sidekiq/cli"
  work
when "produce" then produce
when "send" then send_jobs
end
