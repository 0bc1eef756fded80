import java.util.Map;
import org.apache.kafka.common.errors.PolicyViolationException;
import org.apache.kafka.server.policy.CreateTopicPolicy;

/** Refuses topics whose replication factor is not 3, as Confluent Cloud does (`create.topic.policy.class.name`). */
public class ThreeReplicas implements CreateTopicPolicy {
    @Override
    public void configure(Map<String, ?> configs) {
    }

    @Override
    public void validate(RequestMetadata topic) throws PolicyViolationException {
        // Null where the request names the brokers of each partition itself.
        int replicas = topic.replicationFactor() != null
            ? topic.replicationFactor()
            : topic.replicasAssignments().values().iterator().next().size();
        if (replicas != 3) {
            throw new PolicyViolationException("Topic replication factor must be 3");
        }
    }

    @Override
    public void close() {
    }
}
