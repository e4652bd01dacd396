<?php
// Laravel's queues as anybody would use them, but without the rest of the framework, from Debian's packages:
// php laravel.php ROLE URL [OPTIONS as JSON]; the roles are those of ../node/bullmq.cjs
declare(strict_types=1);

foreach (['Queue', 'Redis', 'Bus', 'Events'] as $part) {
    require_once "Illuminate/$part/autoload.php";
}
require_once 'Predis/autoload.php';

use Illuminate\Bus\Dispatcher as Bus;
use Illuminate\Bus\Queueable;
use Illuminate\Container\Container;
use Illuminate\Contracts\Bus\Dispatcher as BusContract;
use Illuminate\Contracts\Container\Container as ContainerContract;
use Illuminate\Contracts\Debug\ExceptionHandler;
use Illuminate\Contracts\Events\Dispatcher as EventsContract;
use Illuminate\Contracts\Queue\ShouldQueue;
use Illuminate\Events\Dispatcher as Events;
use Illuminate\Queue\Capsule\Manager;
use Illuminate\Queue\Events\Looping;
use Illuminate\Queue\InteractsWithQueue;
use Illuminate\Queue\Worker;
use Illuminate\Queue\WorkerOptions;
use Illuminate\Redis\RedisManager;

[, $role, $url] = $argv;
$options = json_decode($argv[3] ?? '{}', true) + [
    'client' => 'phpredis', 'prefix' => 'laravel_database_', 'rounds' => 2, 'retry' => 90, 'block' => null, 'more' => [],
];

function say(array $said): void
{
    fwrite(STDOUT, json_encode($said) . "\n");
}

function now(): int
{
    return (int) round(microtime(true) * 1e6);
}

// As the whole framework has it, for chains.
function dispatch($job)
{
    return Container::getInstance()->make(BusContract::class)->dispatch($job);
}

abstract class Job implements ShouldQueue
{
    use InteractsWithQueue;
    use Queueable;

    public $tries = 4;

    public function __construct(public array $data = [], protected string $note = 'private')
    {
    }

    abstract public function run();

    public function handle(): void
    {
        $payload = $this->job->payload();
        $said = ['id' => $this->job->uuid(), 'name' => static::class, 'carried' => $payload['traceparent'] ?? ''];
        $said += ['attempt' => $this->attempts(), 'begin' => now()];
        try {
            if ($this instanceof Slow) {
                say($said);
            }
            say([...$said, 'value' => $this->run(), 'end' => now()]);
        } catch (Exception $error) {
            say([...$said, 'error' => $error::class, 'end' => now()]);
            throw $error;
        }
    }
}

class Add extends Job
{
    public function run()
    {
        return $this->data['n'] + 1;
    }
}

class Later extends Add
{
}

class Last extends Add
{
    public $tries = null;
}

class Again extends Job
{
    public function run()
    {
        return $this->attempts() < 3 ? throw new DomainException('secret') : 'at last';
    }
}

class Flaky extends Again
{
    public $backoff = 1;
}

class Broken extends Job
{
    public $tries = 2;

    public function run()
    {
        throw new RangeException('secret');
    }
}

class Released extends Job
{
    public function run()
    {
        return $this->attempts() < 2 ? $this->release(1) : 'released';
    }
}

class Nest extends Job
{
    public function run()
    {
        dispatch(new Add(['n' => $this->data['n'] * 10]));

        return 'nested';
    }
}

class Slow extends Job
{
    public function run()
    {
        if ($this->attempts() === 1) {
            usleep($this->data['ms'] * 1000);
        }

        return 'slept';
    }
}

class Handler implements ExceptionHandler
{
    public function report(Throwable $e)
    {
        if (!$e instanceof DomainException && !$e instanceof RangeException) {
            fwrite(STDERR, "$e\n");
        }
    }

    public function shouldReport(Throwable $e)
    {
        return true;
    }

    public function render($request, Throwable $e)
    {
    }

    public function renderForConsole($output, Throwable $e)
    {
    }
}

$container = new Container();
Container::setInstance($container);
$container->instance(ContainerContract::class, $container);
$manager = new Manager($container);
$manager->addConnection([
    'driver' => 'redis', 'connection' => 'default', 'queue' => 'default', 'retry_after' => $options['retry'],
    'block_for' => $options['block'],
]);
$queues = $manager->getQueueManager();
$server = parse_url($url);
$events = new Events($container);
$container->instance('redis', new RedisManager($container, $options['client'], [
    'options' => ['prefix' => $options['prefix']] + $options['more'],
    'default' => ['host' => $server['host'], 'port' => $server['port'], 'database' => 0],
]));
$container->instance('events', $events);
$container->instance(EventsContract::class, $events);
$bus = new Bus($container, fn () => $queues->connection());
$container->instance(BusContract::class, $bus);

if ($role === 'work') {
    $events->listen(Looping::class, function () {
        static $ready = false;
        $ready = $ready ?: say(['ready' => true]) ?? true;
    });
    $worker = new Worker($queues, $events, new Handler(), fn () => false);
    exit($worker->daemon('default', 'default', new WorkerOptions(timeout: 0, sleep: 0.05)));
}
if ($role === 'produce') {
    for ($n = 0; $n < $options['rounds']; $n++) {
        $bus->dispatch(new Add(['n' => $n]));
        foreach ([Flaky::class, Again::class, Broken::class, Nest::class, Released::class, Last::class] as $class) {
            $bus->dispatch(new $class(['n' => $n]));
        }
        $bus->dispatch((new Later(['n' => $n]))->delay(1));
        $queues->connection()->bulk([new Add(['n' => 1]), new Add(['n' => 2])]);
        $bus->dispatch((new Add(['n' => $n]))->chain([new Add(['n' => $n])]));
    }
}
if ($role === 'send') {
    foreach ($options['jobs'] as [$class, $data, $delay]) {
        $bus->dispatch((new $class($data))->delay($delay));
    }
}
say(['done' => true]);
