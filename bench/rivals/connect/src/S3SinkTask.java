package streams.bench;

import java.net.URI;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.Collection;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Semaphore;

import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.connect.sink.SinkRecord;
import org.apache.kafka.connect.sink.SinkTask;
import software.amazon.awssdk.core.async.AsyncRequestBody;
import software.amazon.awssdk.core.checksums.RequestChecksumCalculation;
import software.amazon.awssdk.http.nio.netty.NettyNioAsyncHttpClient;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.s3.S3AsyncClient;

/**
 * One object per record, many in flight; what may be committed is the lowest offset that is not stored. Connect calls
 * a task from one thread, so only the semaphore is shared with the client's threads.
 */
public final class S3SinkTask extends SinkTask {

    private record Write(long offset, CompletableFuture<?> stored) { }

    private final Map<TopicPartition, ArrayDeque<Write>> writes = new HashMap<>();
    private final Map<TopicPartition, OffsetAndMetadata> fronts = new HashMap<>();
    private String bucket;
    private Semaphore window;
    private S3AsyncClient client;

    @Override
    public String version() {
        return "1";
    }

    @Override
    public void start(Map<String, String> settings) {
        int inFlight = Integer.parseInt(settings.get("s3.in.flight"));
        bucket = settings.get("s3.bucket");
        window = new Semaphore(inFlight);
        client = S3AsyncClient.builder()
            .endpointOverride(URI.create(settings.get("s3.endpoint")))
            .region(Region.of(settings.get("s3.region")))
            .forcePathStyle(true)
            .requestChecksumCalculation(RequestChecksumCalculation.WHEN_REQUIRED)
            .httpClientBuilder(NettyNioAsyncHttpClient.builder()
                .maxConcurrency(inFlight)
                .connectionAcquisitionTimeout(Duration.ofMinutes(1)))
            .build();
    }

    @Override
    public void put(Collection<SinkRecord> records) {
        for (SinkRecord record : records) {
            String key = record.topic() + "/" + record.kafkaPartition() + "/" + record.kafkaOffset() + ".json";
            window.acquireUninterruptibly();
            CompletableFuture<?> stored = client
                .putObject(put -> put.bucket(bucket).key(key), AsyncRequestBody.fromBytesUnsafe((byte[]) record.value()))
                .whenComplete((answer, error) -> window.release());
            writes.computeIfAbsent(new TopicPartition(record.topic(), record.kafkaPartition()), p -> new ArrayDeque<>())
                .add(new Write(record.kafkaOffset(), stored));
        }
    }

    /** Called before every commit; `join` throws what a failed write threw, which ends the task. */
    @Override
    public Map<TopicPartition, OffsetAndMetadata> preCommit(Map<TopicPartition, OffsetAndMetadata> delivered) {
        writes.forEach((partition, pending) -> {
            while (!pending.isEmpty() && pending.peek().stored().isDone()) {
                Write write = pending.remove();
                write.stored().join();
                fronts.put(partition, new OffsetAndMetadata(write.offset() + 1));
            }
        });
        return new HashMap<>(fronts);
    }

    @Override
    public void close(Collection<TopicPartition> partitions) {
        writes.keySet().removeAll(partitions);
        fronts.keySet().removeAll(partitions);
    }

    @Override
    public void stop() {
        if (client != null) {
            client.close();
        }
    }
}
